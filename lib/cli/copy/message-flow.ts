/** Lines of stdin as messages, messages as lines of stdout. The newline is not part of a message. */
import type { Channel } from "../../channel/channel.ts";
import { ByteQueue } from "../../util/byte-queue.ts";
import { CommandFailure } from "../report-error.ts";
import type { Counts, Flow } from "./flow.ts";
import type { Sink } from "./sink.ts";
import type { Source } from "./source.ts";

const NEWLINE = 10;
const READ_BYTES = 1 << 16;
const OUTPUT_BYTES = 1 << 16;

export class MessageFlow implements Flow {
  readonly bytes: Counts = { received: 0, sent: 0 };
  readonly messages: Counts = { received: 0, sent: 0 };
  wantedBytes = 0;
  readonly #output: ByteQueue = new ByteQueue();
  readonly #input: ByteQueue = new ByteQueue();
  readonly #buffer: Uint8Array<ArrayBuffer> = new Uint8Array(READ_BYTES);
  readonly #newline: Uint8Array = Uint8Array.of(NEWLINE);
  /** Bytes of #input that are known to hold no newline. */
  #searched = 0;

  deliver(channel: Channel, sink: Sink): "again" | "empty" | "blocked" {
    while (this.#output.length < OUTPUT_BYTES) {
      const message = channel.tryReceive();
      if (message === undefined) break;
      this.#output.push(message.data);
      this.#output.push(this.#newline);
      this.bytes.received += message.data.length;
      this.messages.received += 1;
    }
    if (this.#output.length === 0) return "empty";
    const count = sink.write(this.#output.peek());
    if (count === null) return "blocked";
    this.#output.drop(count);
    return "again";
  }

  take(channel: Channel, source: Source): "again" | "empty" | "full" | "end" {
    const line = this.#nextLine(source.ended);
    if (line !== undefined) return this.#send(channel, line);
    if (source.ended) return "end";
    if (!source.ready) return "empty";
    const count = source.read(this.#buffer);
    if (count === null) return "empty";
    this.#input.push(this.#buffer.subarray(0, count));
    this.#checkLength(channel);
    return "again";
  }

  /** Without its newline; the last line of all needs none. */
  #nextLine(isLast: boolean): Uint8Array | undefined {
    const bytes = this.#input.peek();
    const end = bytes.indexOf(NEWLINE, this.#searched);
    if (end >= 0) return bytes.subarray(0, end);
    this.#searched = bytes.length;
    return isLast && bytes.length > 0 ? bytes : undefined;
  }

  #send(channel: Channel, line: Uint8Array): "again" | "full" {
    if (line.length > channel.maxRecordBytes) throw tooLong(channel);
    if (!channel.trySend(line)) {
      this.wantedBytes = line.length;
      return "full";
    }
    this.bytes.sent += line.length;
    this.messages.sent += 1;
    this.#input.drop(Math.min(line.length + 1, this.#input.length));
    this.#searched = 0;
    return "again";
  }

  #checkLength(channel: Channel): void {
    const isEndless = this.#input.length > channel.maxRecordBytes && this.#input.peek().indexOf(NEWLINE) < 0;
    if (isEndless) throw tooLong(channel);
  }
}

function tooLong(channel: Channel): CommandFailure {
  return new CommandFailure(
    `Cannot send a line of more than ${channel.maxRecordBytes} bytes: the ring is too small for it; use a larger --capacity`,
  );
}
