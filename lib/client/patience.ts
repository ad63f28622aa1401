/**
 * How long an answer of the broker is waited for by who keeps a program waiting meanwhile: not long, since every program of
 * the tree waits with it. A broker that is stopped, or busy, answers later or never; until it does nothing more is
 * waited for, and after a long while it counts as ended.
 */
import { FailureError } from "../errors.ts";
import type { Reactor, TimerHandle } from "../transport/reactor.ts";
import { ANSWER_MS, type BrokerSocket, type WaitOutcome } from "./broker-socket.ts";
import { brokerGone } from "./failure.ts";
import type { LastingLink } from "./lasting-link.ts";

/** In all, for an answer that a broker which runs has given long before. */
const PATIENCE_MS = 250;
/** In pieces: a machine that stands still for longer makes one of them long, and the broker has the time of the others left. */
const PIECES = 10;

export class Patience {
  readonly #lasting: Pick<LastingLink, "read" | "lose">;
  #reactor: Reactor | undefined;
  #timer: TimerHandle | undefined;
  #isReading = false;
  /** Whether the answer has come that was waited for in vain. */
  #isAnswered: (() => boolean) | undefined;

  constructor(lasting: Pick<LastingLink, "read" | "lose">) {
    this.#lasting = lasting;
  }

  attach(reactor: Reactor): void {
    this.#reactor = reactor;
  }

  /** Whether an answer is overdue: nothing is to be waited for. */
  get isSilent(): boolean {
    if (this.#isAnswered === undefined) return false;
    this.#readAhead();
    if (this.#isAnswered?.() === true) this.reset();
    return this.#isAnswered !== undefined;
  }

  /** The answer may be there, and the reactor has not come to it. Who hears of it may ask for isSilent. */
  #readAhead(): void {
    if (this.#isReading) return;
    this.#isReading = true;
    try {
      this.#lasting.read();
    } finally {
      this.#isReading = false;
    }
  }

  /** Waits for an answer on that connection. @returns false where it is overdue now: it may come later
   *  @throws FailureError "gone" */
  wait(link: Pick<BrokerSocket, "wait">, isAnswered: () => boolean): boolean {
    let outcome: WaitOutcome = "timeout";
    for (let piece = 0; piece < PIECES && outcome === "timeout"; piece++)
      outcome = link.wait(isAnswered, PATIENCE_MS / PIECES);
    if (outcome === "ended") throw brokerGone("wait for its answer");
    if (outcome === "done") return true;
    this.#isAnswered = isAnswered;
    this.#timer = this.#reactor?.setTimer(ANSWER_MS - PATIENCE_MS, () => this.#giveUp(isAnswered));
    return false;
  }

  #giveUp(isAnswered: () => boolean): void {
    if (this.#isAnswered !== isAnswered || !this.isSilent) return;
    this.#lasting.lose(new FailureError("timeout", "Cannot wait for the broker any longer: it is silent"));
  }

  /** The connection is another one now, or none. */
  reset(): void {
    this.#isAnswered = undefined;
    this.#timer?.cancel();
    this.#timer = undefined;
  }
}
