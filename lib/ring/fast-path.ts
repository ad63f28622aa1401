/** The common case in machine code, handed in by whoever may call it. It does what the TypeScript beside each call does. */

export type FastPath = {
  /** state.ts; both sides of each call work on it. */
  readonly state: Int32Array;
  /** Notes where the caller's buffer lies, or the one with packed messages. The calls below may be made as long as it has
   *  the same length: then it lies there still. @returns false for one that may not, and must not be used */
  lend(which: "buffer" | "packed", bytes: Uint8Array): boolean;
  /** @returns SENT, REFUSED (nothing has changed), WAKE */
  send(length: number, type: number): number;
  /** @returns the index of the first that was not put */
  putPacked(messageBytes: number, from: number, to: number, type: number): number;
  /** @param looks  how often, when nothing is there  @returns a length, perhaps with PUBLISH; EMPTY, UNUSUAL */
  receive(room: number, looks: number): number;
  /** @returns how many, none of them published */
  takePacked(messageBytes: number, most: number): number;
  close(): void;
};

/** Makes one when it is first worth it; undefined where there is none. */
export type OpenFastPath = () => FastPath | undefined;

export const SENT = 0;
export const REFUSED = -1;
/** Sent, and somebody may have to be woken. */
export const WAKE = 1;
/** The position was not published, because somebody may have to be woken. */
export const PUBLISH: number = 1 << 30;
