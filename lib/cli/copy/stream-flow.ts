/** Bytes without boundaries, never copied here: read(2) writes into the ring and write(2) reads from it. */
import type { Channel } from "../../channel/channel.ts";
import type { Counts, Flow } from "./flow.ts";
import type { Sink } from "./sink.ts";
import type { Source } from "./source.ts";

const WANTED_BYTES = 1 << 16;

export class StreamFlow implements Flow {
  readonly bytes: Counts = { received: 0, sent: 0 };
  readonly messages: undefined = undefined;
  readonly wantedBytes: number = WANTED_BYTES;

  deliver(channel: Channel, sink: Sink): "again" | "empty" | "blocked" {
    const span = channel.readableSpan();
    if (span === undefined) return "empty";
    const count = sink.write(span);
    if (count === null) return "blocked";
    channel.releaseSpan(count);
    this.bytes.received += count;
    return "again";
  }

  take(channel: Channel, source: Source): "again" | "empty" | "full" | "end" {
    if (source.ended) return "end";
    if (!source.ready) return "empty";
    const span = channel.writableSpan();
    if (span.length === 0) return "full";
    const count = source.read(span);
    if (count === null) return "empty";
    if (count === 0) return "end";
    channel.commitSpan(count);
    this.bytes.sent += count;
    return "again";
  }
}
