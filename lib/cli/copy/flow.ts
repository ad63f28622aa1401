/** How bytes get from stdin into a channel and from a channel to stdout; pump.ts decides when. */
import type { Channel } from "../../channel/channel.ts";
import type { Sink } from "./sink.ts";
import type { Source } from "./source.ts";

export type Counts = { received: number; sent: number };

export type Flow = {
  /** Bytes and, where they are told apart, messages so far. */
  readonly bytes: Counts;
  readonly messages: Counts | undefined;
  /** Moves a little from the channel to stdout.
   *  @returns "again": there may be more; "empty": nothing has arrived; "blocked": stdout has no room */
  deliver(channel: Channel, sink: Sink): "again" | "empty" | "blocked";
  /** Moves a little from stdin to the channel. @returns "empty": nothing to read now; "full": the ring has no room */
  take(channel: Channel, source: Source): "again" | "empty" | "full" | "end";
  /** Bytes that the next take() needs room for, after "full". */
  readonly wantedBytes: number;
};
