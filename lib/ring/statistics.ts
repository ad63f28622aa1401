/** What a ring's control page says about itself. Its side wrote it, so it is a claim, and only ever shown. */

import { readCounter } from "./counter.ts";
import {
  COLD_BYTES,
  COLD_DATA_WAKEUPS,
  COLD_MESSAGES,
  COLD_SPACE_WAKEUPS,
  DATA_WAKE,
  HEAD,
  STATE,
  STATE_FINISHED,
  TAIL,
  WAKE_GONE,
} from "./layout.ts";

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
  readonly finished: boolean;
  /** This side will never read again. */
  readonly gone: boolean;
};

/** @param words  over the header and control page of the ring's file */
export function readSideStatistics(words: Int32Array, capacity: number): SideStatistics {
  const messages = readCounter(words, COLD_MESSAGES);
  const wakeups = readCounter(words, COLD_DATA_WAKEUPS);
  return {
    capacity,
    bytes: readCounter(words, COLD_BYTES),
    messages,
    tail: (words[TAIL] ?? 0) >>> 0,
    head: (words[HEAD] ?? 0) >>> 0,
    wakeups,
    spaceWakeups: readCounter(words, COLD_SPACE_WAKEUPS),
    wakeupsSaved: Math.max(0, messages - wakeups),
    finished: words[STATE] === STATE_FINISHED,
    gone: ((words[DATA_WAKE] ?? 0) & WAKE_GONE) !== 0,
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
};

/** One direction of a channel, from what its producer and its consumer say. */
export function directionStats(producer: SideStatistics, consumer: SideStatistics): DirectionStatistics {
  return {
    bytes: producer.bytes,
    messages: producer.messages,
    fill: Math.min((producer.tail - consumer.head) >>> 0, producer.capacity),
    wakeups: producer.wakeups + consumer.spaceWakeups,
    wakeupsSaved: producer.wakeupsSaved,
  };
}
