/** What a caller gives as a number of bytes or of messages: a wrong one would move a position to where nothing is. */

/** @param what  what is counted, for the message
 *  @throws TypeError when `value` is no whole number, RangeError when it is not in `least` … `most` */
export function checkCount(value: number, most: number, what: string, least = 0): void {
  if (!Number.isInteger(value))
    throw new TypeError(`Cannot use "${String(value)}" as ${what}: a whole number is needed`);
  if (value < least || value > most) {
    throw new RangeError(`Cannot use "${value}" as ${what}: ${least} to ${most} are possible`);
  }
}
