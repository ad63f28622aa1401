/**
 * Whether sockets are made ahead for those who connect: while connections come in numbers, and no longer. They are
 * descriptors of ours, and have names that nobody else can have.
 */
import type { Reactor, TimerHandle } from "../../transport/reactor.ts";

/** So many connections in that time are worth it. */
const [MANY, WITHIN_MS] = [64, 1000];

export type StockOptions = {
  /** Has them made, or does away with them. @returns whether there are any now */
  readonly makeAhead: (isWished: boolean) => boolean;
  readonly setTimer: Reactor["setTimer"];
};

export class Stock implements Disposable {
  readonly #options: StockOptions;
  #count = 0;
  #sinceMs = 0;
  #canKeep = true;
  #timer: TimerHandle | undefined;

  constructor(options: StockOptions) {
    this.#options = options;
  }

  /** Connections have been made. */
  note(times: number, nowMs: number): void {
    this.#count += times;
    if (this.#timer !== undefined || !this.#canKeep) return;
    if (nowMs - this.#sinceMs > WITHIN_MS) [this.#sinceMs, this.#count] = [nowMs, times];
    if (this.#count < MANY) return;
    this.#canKeep = this.#options.makeAhead(true);
    if (this.#canKeep) this.#lookLater();
  }

  #lookLater(): void {
    this.#count = 0;
    this.#timer = this.#options.setTimer(WITHIN_MS, () => {
      if (this.#count >= MANY) return this.#lookLater();
      this.#timer = undefined;
      this.#options.makeAhead(false);
    });
  }

  [Symbol.dispose](): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#canKeep = false;
  }
}
