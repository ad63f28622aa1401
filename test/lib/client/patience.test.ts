/** How long a broker is waited for while a program waits with us. */
import { expect, test } from "bun:test";
import type { WaitOutcome } from "../../../lib/client/broker-socket.ts";
import { Patience } from "../../../lib/client/patience.ts";

/** A broker that answers once it has been waited for `answerMs` by who was awake; `standstillMs` is how long the machine
 *  stands still in the first wait. */
class Answering {
  waitedMs = 0;
  readonly #answerMs: number;
  #standstillMs: number;

  constructor(answerMs: number, standstillMs = 0) {
    this.#answerMs = answerMs;
    this.#standstillMs = standstillMs;
  }

  wait(_until: () => boolean, timeoutMs: number): WaitOutcome {
    const passedMs = Math.max(timeoutMs - this.#standstillMs, 0);
    this.#standstillMs = 0;
    this.waitedMs += passedMs;
    return this.waitedMs >= this.#answerMs ? "done" : "timeout";
  }
}

const unused = (): never => {
  throw new Error("not to be called");
};
const lasting = { read: () => {}, lose: unused };

test("a machine that stands still for longer than a broker is waited for leaves it time to answer", () => {
  const patience = new Patience(lasting);
  expect(patience.wait(new Answering(100, 3000), () => false)).toBe(true);
  expect(patience.isSilent).toBe(false);
});

test("a broker that does not answer is waited for a quarter of a second, and is silent until it does", () => {
  const patience = new Patience(lasting);
  const broker = new Answering(Number.POSITIVE_INFINITY);
  let isAnswered = false;
  expect(patience.wait(broker, () => isAnswered)).toBe(false);
  expect(broker.waitedMs).toBe(250);
  expect(patience.isSilent).toBe(true);
  isAnswered = true;
  expect(patience.isSilent).toBe(false);
});
