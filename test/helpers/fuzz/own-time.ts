/**
 * The time of a broker in this process: it goes on by what each turn was told to wait, however long that takes; timers that
 * are set meanwhile run out by it, and what its threads are given to close is closed at once. So what a seed leads to where time runs out and descriptors are few does
 * not depend on how fast the machine is, or on who else is at work there.
 */
import { CallThread } from "../../../ffi/mod.ts";
import { Reactor } from "../../../lib/transport/reactor.ts";
import { TimerHeap } from "../../../lib/util/timer-heap.ts";
import type { Turns } from "./fuzz.ts";

/** What a turn takes that does not wait. */
const TURN_MS = 0.2;

export class OwnTime {
  readonly #timers: TimerHeap = new TimerHeap();
  #nowMs = 0;

  /** Calls `act`, which knows no other time. */
  within<T>(act: () => T): T {
    const { now } = performance;
    const { close } = CallThread.prototype;
    const { setTimer } = Reactor.prototype;
    performance.now = () => this.#nowMs;
    Reactor.prototype.setTimer = (delayMs, callback) => {
      const timer = this.#timers.add(this.#nowMs + delayMs, callback);
      return { cancel: () => this.#timers.remove(timer) };
    };
    CallThread.prototype.close = function (numbers): void {
      close.call(this, numbers);
      while (this.isBusy) this.wait(1);
    };
    try {
      return act();
    } finally {
      performance.now = now;
      Reactor.prototype.setTimer = setTimer;
      CallThread.prototype.close = close;
    }
  }

  /** The broker's turns, which take time. */
  of(broker: Turns): Turns {
    const turn = (timeoutMs: number): void => {
      broker.turn(0);
      this.#nowMs += Math.max(timeoutMs, TURN_MS);
      const nowMs = this.#nowMs;
      for (let timer = this.#timers.take(nowMs); timer !== undefined; timer = this.#timers.take(nowMs))
        timer.callback();
    };
    return { turn };
  }
}
