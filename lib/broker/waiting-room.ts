/**
 * Who has connected and is not let in yet. Mostly nobody: who comes is let in at once. Those of a user or a context who come
 * without end wait until its rate allows for one and it is their turn among those who flood. Who waits counts as a connection of
 * his user's, so as many may wait as could be let in; the others hear why they cannot.
 */
import { constants, pollNow } from "../../ffi/mod.ts";
import type { Reactor } from "../transport/reactor.ts";
import type { BrokerCore } from "./core.ts";
import { hasLeft, type Newcomer } from "./door.ts";
import type { Share } from "./flood-share.ts";
import { accountKey } from "./quota.ts";

/** Who have left meanwhile, and are let go of in the turn of who has not. */
const LEFT_AT_ONCE = 4;
/** Those who are asked whether they are still there when somebody finds no room. */
const LOOKED_AT = 16;
/** Given back before he is let in, and is charged for his session. */
const WAITING = { sessions: 1 };

export type WaitingRoomOptions = {
  readonly core: Pick<BrokerCore, "floodTurns" | "quota" | "rate">;
  readonly reactor: Pick<Reactor, "setTimer">;
  /** Takes the newcomer. */
  readonly admit: (newcomer: Newcomer) => void;
  /** There is no room for one more of that user or context. @returns whether there may be now */
  readonly makeRoom: (newcomer: Newcomer) => boolean;
  /** Says why there is no room. Takes the newcomer. */
  readonly refuse: (newcomer: Newcomer, why: string) => void;
  /** Nobody waits any more: they were let in or turned away, or have left. */
  readonly emptied: () => void;
};

/** Those of one user or context. */
type Queue = {
  readonly key: string;
  readonly share: Share;
  readonly waiting: Newcomer[];
  /** Who was looked at last. */
  lookedAt: number;
  /** Somebody will be called, or it will be found that nobody waits any more. */
  isCalled: boolean;
};

export class WaitingRoom implements Disposable {
  readonly #options: WaitingRoomOptions;
  readonly #queues: Map<string, Queue> = new Map();
  #size = 0;
  #isClosed = false;

  constructor(options: WaitingRoomOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#size;
  }

  /** Lets somebody in, now or later, or turns him away. Takes the newcomer. */
  receive(newcomer: Newcomer): void {
    const { core, admit, refuse } = this.#options;
    const { floodTurns, quota } = core;
    const key = accountKey(newcomer);
    const queue = this.#queues.get(key) ?? {
      key,
      share: floodTurns.shareOf(newcomer),
      waiting: [],
      lookedAt: 0,
      isCalled: false,
    };
    const isFirst = queue.waiting.length === 0;
    if (isFirst && !floodTurns.isGreedy(queue.share) && this.#waitMs(newcomer) === 0)
      return floodTurns.run(queue.share, () => admit(newcomer));
    let refusal = quota.charge(newcomer, WAITING);
    if (refusal !== undefined && floodTurns.run(queue.share, () => this.#makeRoom(newcomer, queue)))
      refusal = quota.charge(newcomer, WAITING);
    if (refusal !== undefined) return floodTurns.run(queue.share, () => refuse(newcomer, refusal));
    queue.waiting.push(newcomer);
    this.#queues.set(key, queue);
    this.#size += 1;
    if (!queue.isCalled) this.#call(queue);
  }

  /** Some of those who wait may have left; a few of them are looked at each time. */
  #makeRoom(newcomer: Newcomer, queue: Queue): boolean {
    const { waiting } = queue;
    const size = waiting.length;
    for (let looked = 0; looked < LOOKED_AT; looked++) {
      queue.lookedAt = queue.lookedAt + 1 < waiting.length ? queue.lookedAt + 1 : 0;
      const one = waiting[queue.lookedAt];
      if (one !== undefined && (pollNow(one.fd, 0) & constants.EPOLLHUP) !== 0)
        this.#remove(queue, queue.lookedAt)?.fd.close();
    }
    return waiting.length < size || this.#options.makeRoom(newcomer);
  }

  /** Not when there is enough for the whole cost: a user of whom one session floods never has that much, and could not come
   *  in at all. */
  #waitMs(who: Newcomer): number {
    return this.#options.core.rate.waitMs(who, 1, performance.now());
  }

  /** Calls the first when his time comes. */
  #call(queue: Queue): void {
    const [first] = queue.waiting;
    if (this.#isClosed) return;
    if (first === undefined) return this.#finish(queue);
    queue.isCalled = true;
    const { core, reactor } = this.#options;
    const waitMs = this.#waitMs(first);
    if (waitMs > 0) reactor.setTimer(waitMs, () => this.#call(queue));
    else core.floodTurns.await(queue.share, () => this.#takeTurn(queue));
  }

  /** One at a time, since each is as much work as many messages. */
  #takeTurn(queue: Queue): void {
    if (this.#isClosed) return;
    let next = this.#shift(queue);
    for (let left = 0; next !== undefined && hasLeft(next.fd) && left < LEFT_AT_ONCE; left++) {
      next.fd.close();
      next = this.#shift(queue);
    }
    if (next !== undefined) this.#options.admit(next);
    if (queue.waiting.length > 0) this.#call(queue);
    else this.#finish(queue);
  }

  #finish(queue: Queue): void {
    queue.isCalled = false;
    this.#queues.delete(queue.key);
    if (this.#size === 0) this.#options.emptied();
  }

  #shift(queue: Queue): Newcomer | undefined {
    return this.#remove(queue, 0);
  }

  #remove({ waiting }: Queue, index: number): Newcomer | undefined {
    const [one] = waiting.splice(index, 1);
    if (one === undefined) return undefined;
    this.#size -= 1;
    this.#options.core.quota.release(one, WAITING);
    return one;
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    for (const queue of this.#queues.values())
      for (let next = this.#shift(queue); next !== undefined; next = this.#shift(queue)) next.fd.close();
    this.#queues.clear();
  }
}
