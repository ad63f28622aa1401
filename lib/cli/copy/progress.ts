/** A line on stderr that says how far a copy is: only on a terminal, only now and then, and never on top of the output. */
import { howMany } from "../../util/how-many.ts";
import { formatBytes, formatDuration } from "../numbers.ts";
import { printError } from "../output.ts";
import type { Counts, Flow } from "./flow.ts";

export type Moved = Pick<Flow, "bytes" | "messages">;

const FIRST_MS = 500;
const INTERVAL_MS = 200;
const CLEAR_LINE = "\r\u001b[K";

export type ProgressOptions = {
  /** Sum up at the end. */
  readonly verbose: boolean;
  /** stdout is the same screen. */
  readonly sharesScreen: boolean;
};

export class Progress {
  readonly #name: string;
  readonly #verbose: boolean;
  readonly #live: boolean;
  #startMs: number = performance.now();
  #nextMs: number = this.#startMs + FIRST_MS;
  #seenBytes = 0;
  #shown = false;

  constructor(name: string, { verbose, sharesScreen }: ProgressOptions) {
    this.#name = name;
    this.#verbose = verbose;
    this.#live = process.stderr.isTTY === true && !sharesScreen;
  }

  update({ bytes }: Pick<Moved, "bytes">): void {
    const now = performance.now();
    const moved = bytes.received + bytes.sent;
    // The time before the first byte is the other side's, or a person's.
    if (this.#seenBytes === 0 && moved > 0) {
      this.#startMs = now;
      this.#nextMs = now + FIRST_MS;
    }
    if (this.#live && moved > this.#seenBytes && now >= this.#nextMs) {
      this.#nextMs = now + INTERVAL_MS;
      this.#shown = true;
      printError(`${CLEAR_LINE}${this.#name}: ${this.#describe(bytes)}, ${this.#rate(bytes)}`);
    }
    this.#seenBytes = moved;
  }

  #describe({ received, sent }: Counts): string {
    const parts = [
      received > 0 ? `${formatBytes(received)} received` : "",
      sent > 0 ? `${formatBytes(sent)} sent` : "",
    ];
    return parts.filter((part) => part !== "").join(", ") || "nothing sent or received";
  }

  #rate({ received, sent }: Counts): string {
    const seconds = Math.max((performance.now() - this.#startMs) / 1000, 0.001);
    return `${formatBytes((received + sent) / seconds)}/s`;
  }

  /** Takes the line away again. Safe to call twice. */
  clear(): void {
    if (this.#shown) printError(CLEAR_LINE);
    this.#shown = false;
  }

  /** With -v, one line that stays. */
  finish({ bytes, messages }: Moved): void {
    this.clear();
    if (!this.#verbose) return;
    const counted =
      messages === undefined ? "" : ` (${howMany(messages.received, "message")} received, ${messages.sent} sent)`;
    const time = formatDuration(performance.now() - this.#startMs);
    printError(`${this.#name}: ${this.#describe(bytes)}${counted} in ${time}, ${this.#rate(bytes)}\n`);
  }
}
