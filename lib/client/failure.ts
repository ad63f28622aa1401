/** The wire's refusals as errors, and the end of a broker. */
import { type FailureCode, FailureError } from "../errors.ts";
import { SHMLINK_MANAGER_V1_FAILURE } from "../protocol/shmlink-v1.gen.ts";

export function failureOf(code: number, message: string): FailureError {
  const found = Object.entries(SHMLINK_MANAGER_V1_FAILURE).find(([, number]) => number === code);
  const name = found?.[0].replaceAll("_", "-") ?? "refused";
  return new FailureError(name as FailureCode, message); // each name in the protocol is a FailureCode, spelled so
}

/** The broker ended, and not whom it was asked for. */
export class BrokerGone extends FailureError {}

export function brokerGone(what: string): BrokerGone {
  return new BrokerGone("gone", `Cannot ${what}: the broker ended the connection`);
}

export function nobodyInTime(name: string): FailureError {
  return new FailureError("timeout", `Cannot take "${name}": nobody offered anything in time`);
}
