/** The wire's refusals as errors. */
import { type FailureCode, FailureError } from "../errors.ts";
import { SHMLINK_MANAGER_V1_FAILURE } from "../protocol/shmlink-v1.gen.ts";

const NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(SHMLINK_MANAGER_V1_FAILURE).map(([name, number]) => [number, name.replaceAll("_", "-")]),
);

export function failureOf(code: number, message: string): FailureError {
  return new FailureError((NAMES.get(code) ?? "refused") as FailureCode, message);
}
