/** What a caller gives as milliseconds: a wrong type would make a wait that never ends. */

/** @returns `value`  @throws TypeError when it is no number */
export function checkMilliseconds(value: number, name: string): number {
  if (typeof value === "number" && !Number.isNaN(value)) return value;
  throw new TypeError(`Cannot use "${value}" as ${name}: a number of milliseconds is needed`);
}

/** When a wait that starts now is over, by performance.now(); never for a negative number.
 *  @throws TypeError when `value` is no number */
export function deadlineOf(value: number, name: string): number {
  return checkMilliseconds(value, name) < 0 ? Number.POSITIVE_INFINITY : performance.now() + value;
}
