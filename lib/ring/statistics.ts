/** What a ring's control page says about itself. Its side wrote it, so it is a claim, and only ever shown. */

import { readCounter } from "./counter.ts";
import {
  COLD_BYTES,
  COLD_DATA_WAKEUPS,
  COLD_DROPPED,
  COLD_HUGE,
  COLD_MESSAGES,
  COLD_SKIPPED,
  COLD_SPACE_WAKEUPS,
  DATA_WAKE,
  HEAD,
  HEADER_BYTES,
  STATE,
  STATE_FINISHED,
  TAIL,
  WAKE_GONE,
} from "./layout.ts";

/** Where the control page begins, in words of the file. */
const CONTROL_WORD = HEADER_BYTES / 4;
/** How much of the control page is read, from its beginning. */
export const STATISTICS_WORDS: number = COLD_HUGE + 2 - CONTROL_WORD;

export type SideStatistics = {
  readonly capacity: number;
  /** Bytes of payload and messages produced into this side's ring. */
  readonly bytes: number;
  readonly messages: number;
  /** Positions, unsigned 32-bit: produced into this ring, consumed from the other one. */
  readonly tail: number;
  readonly head: number;
  /** Doorbells this side rang because it had produced, and because it had consumed. */
  readonly wakeups: number;
  readonly spaceWakeups: number;
  /** Messages that went without a doorbell. */
  readonly wakeupsSaved: number;
  /** Messages that were not produced because there was no room, and the other side's that were thrown away unread. */
  readonly dropped: number;
  readonly skipped: number;
  /** Bytes of the ring's file that lie in huge pages. */
  readonly hugePages: number;
  readonly finished: boolean;
  /** This side will never read again. */
  readonly gone: boolean;
};

/** What a ring says of itself before anybody has produced into it. */
export function emptySideStatistics(capacity: number): SideStatistics {
  return readSideStatistics(new Int32Array(STATISTICS_WORDS), capacity);
}

/** @param words  the first STATISTICS_WORDS of the control page of the ring's file */
export function readSideStatistics(words: Int32Array, capacity: number): SideStatistics {
  const base = -CONTROL_WORD;
  const messages = readCounter(words, base + COLD_MESSAGES);
  const wakeups = readCounter(words, base + COLD_DATA_WAKEUPS);
  return {
    capacity,
    bytes: readCounter(words, base + COLD_BYTES),
    messages,
    tail: (words[base + TAIL] ?? 0) >>> 0,
    head: (words[base + HEAD] ?? 0) >>> 0,
    wakeups,
    spaceWakeups: readCounter(words, base + COLD_SPACE_WAKEUPS),
    wakeupsSaved: Math.max(0, messages - wakeups),
    dropped: readCounter(words, base + COLD_DROPPED),
    skipped: readCounter(words, base + COLD_SKIPPED),
    hugePages: readCounter(words, base + COLD_HUGE),
    finished: words[base + STATE] === STATE_FINISHED,
    gone: ((words[base + DATA_WAKE] ?? 0) & WAKE_GONE) !== 0,
  };
}

export type DirectionStatistics = {
  readonly bytes: number;
  readonly messages: number;
  /** Bytes of the ring that hold what was not consumed yet. */
  readonly fill: number;
  /** Doorbells rung by either side because of this ring. */
  readonly wakeups: number;
  readonly wakeupsSaved: number;
  /** Messages lost by choice: by the sender, because there was no room; by the receiver, because it was behind. */
  readonly dropped: number;
  readonly skipped: number;
  /** Bytes of the ring's file that lie in huge pages. */
  readonly hugePages: number;
};

/** One direction of a channel, from what its producer and its consumer say. */
export function directionStats(producer: SideStatistics, consumer: SideStatistics): DirectionStatistics {
  return {
    bytes: producer.bytes,
    messages: producer.messages,
    fill: Math.min((producer.tail - consumer.head) >>> 0, producer.capacity),
    wakeups: producer.wakeups + consumer.spaceWakeups,
    wakeupsSaved: producer.wakeupsSaved,
    dropped: producer.dropped,
    skipped: consumer.skipped,
    hugePages: producer.hugePages,
  };
}
