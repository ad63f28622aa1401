/** A value the peer wrote that no honest peer would write. A ring keeps the first one and touches nothing after it. */
export type Violation = {
  readonly kind: "tail" | "head" | "length" | "flags" | "message-size";
  /** The value as read. */
  readonly value: number;
  /** Our own position in the ring when it was read. */
  readonly position: number;
};

const WANTED: Record<Violation["kind"], string> = {
  tail: "a multiple of 8 that moves forward and stays within the capacity",
  head: "a multiple of 8 that moves forward and stays behind the tail",
  length: "what fits into the bytes published and before the end of the ring, at least 1 in a part of a message",
  flags: "first, last or pad, in an order that makes messages",
  "message-size": "at most the longest message allowed",
};

export function describeViolation({ kind, value, position }: Violation): string {
  return `Cannot go on with the ring: ${kind} is "${value >>> 0}" at position "${position >>> 0}", wanted is ${WANTED[kind]}`;
}
