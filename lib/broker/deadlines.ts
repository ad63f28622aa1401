/**
 * What is begun has to be finished in time (broker.setUpMs): hello, a message, a channel, a bundle. Else each of them would
 * hold descriptors and memory for as long as somebody likes to leave it half done.
 *
 * Everything that is unfinished is looked at a few times within its time, and nothing is when there is nothing of the kind:
 * what goes its usual way sets no timer of its own, and a broker that has nothing to do sleeps.
 */
import { FailureError } from "../errors.ts";
import { abandonChannel } from "./channel-end.ts";
import type { BrokerCore } from "./core.ts";
import { spoil } from "./offers.ts";
import type { Session } from "./session.ts";

/** How often it is looked within the time. */
const LOOKS = 4;

export type DeadlinesOptions = {
  readonly core: () => BrokerCore;
  readonly setTimer: (delayMs: number, callback: () => void) => void;
};

/** A message that has not come whole, by how many were handled before it. */
type Half = { readonly handled: number; readonly sinceMs: number };

export class Deadlines {
  readonly #options: DeadlinesOptions;
  readonly #halves: WeakMap<Session, Half> = new WeakMap();
  #isTimerSet = false;

  constructor(options: DeadlinesOptions) {
    this.#options = options;
  }

  /** Something has been begun. */
  watch(): void {
    const { setUpMs } = this.#options.core().config.broker;
    if (this.#isTimerSet || setUpMs === 0) return;
    this.#isTimerSet = true;
    this.#options.setTimer(Math.ceil(setUpMs / LOOKS), () => {
      this.#isTimerSet = false;
      if (this.#look(performance.now())) this.watch();
    });
  }

  /** @returns whether anything is unfinished still */
  #look(nowMs: number): boolean {
    const core = this.#options.core();
    const { setUpMs } = core.config.broker;
    if (setUpMs === 0) return false; // never, since the configuration was read again
    const oldestMs = nowMs - setUpMs;
    let isSomething = false;
    for (const session of [...core.sessions()]) if (this.#lookAt(session, nowMs, oldestMs)) isSomething = true;
    for (const channel of [...core.registry.channels.values()]) {
      if (channel.sides.every(({ memfd }) => memfd === undefined)) continue;
      if (channel.sinceMs <= oldestMs) abandonChannel(core, channel, setUpMs);
      else isSomething = true;
    }
    for (const offer of core.registry.offers.values()) {
      if (offer.staged.length === 0) continue;
      if (offer.stagedSinceMs <= oldestMs) spoil(core, offer, setUpMs);
      else isSomething = true;
    }
    return isSomething;
  }

  #lookAt(session: Session, nowMs: number, oldestMs: number): boolean {
    const { unfinished } = session;
    if (unfinished === undefined) return false;
    const known = this.#halves.get(session);
    const isSame = known !== undefined && known.handled === session.handled;
    if (unfinished === "a message" && !isSame) this.#halves.set(session, { handled: session.handled, sinceMs: nowMs });
    const sinceMs = unfinished === "hello" ? session.startedMs : isSame ? known.sinceMs : nowMs;
    if (sinceMs > oldestMs) return true;
    const { setUpMs } = this.#options.core().config.broker;
    session.expel(
      new FailureError("timeout", `Cannot wait any longer for ${unfinished}: broker.setUpMs is ${setUpMs}`),
    );
    return false;
  }
}
