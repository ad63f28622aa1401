/** --direction of listen and dial. */
import type { Direction } from "../channel/channel.ts";
import { UsageError } from "./usage-error.ts";

const DIRECTIONS: readonly Direction[] = ["both", "send", "receive"];

export const DIRECTION_ARG = {
  type: "string",
  valueHint: "send|receive",
  description: "what we do in the channel; nothing can go the other way (default both)",
} as const;

/** @throws UsageError */
export function parseDirection(text: string | undefined): Direction {
  const direction = DIRECTIONS.find((each) => each === (text ?? "both"));
  if (direction !== undefined) return direction;
  throw new UsageError(`Cannot use --direction "${text}": one of ${DIRECTIONS.join(", ")} is wanted`);
}
