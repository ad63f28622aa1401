/**
 * Both directions between stdin, stdout and one channel, in one reactor that sleeps when there is nothing to do.
 * A direction ends by itself; the whole ends when both have. What goes wrong is thrown, and then the channel must not
 * be closed in order: the peer is to see that we vanished.
 *
 * The race it is written against: data arrives between "there is none" and the sleep. arm…() re-checks after asking
 * for the doorbell and says whether sleeping is right.
 */

import { constants } from "../../../ffi/mod.ts";
import type { Channel } from "../../channel/channel.ts";
import { ClosedError, FailureError } from "../../errors.ts";
import type { Reactor, Registration, TimerHandle } from "../../transport/reactor.ts";
import type { Flow } from "./flow.ts";
import type { Sink } from "./sink.ts";
import { Source } from "./source.ts";

/** Steps of one direction before everything else gets its turn. */
const STEPS_A_TURN = 32;

export type PumpOptions = {
  readonly reactor: Reactor;
  readonly channel: Channel;
  /** What was dialled, for messages. */
  readonly name: string;
  readonly flow: Flow;
  readonly stdin: number;
  /** Its onWritable is to call resumeDelivery(). */
  readonly sink: Sink;
  /** Called in every turn in which something moved. */
  readonly onProgress?: (flow: Flow) => void;
};

export class Pump implements Disposable {
  readonly #options: PumpOptions;
  readonly #source: Source;
  readonly #doorbell: Registration;
  #delivering: boolean;
  #deliveryBlocked = false;
  #sendingDone = false;
  /** The other side has done with all that we sent: read by a program, or written where it goes. */
  #drained = false;
  #waitsForRoom = false;
  #hungUp = false;
  #resting: TimerHandle | undefined;
  /** There was more to do than one turn allows. */
  #pending = true;

  constructor(options: PumpOptions) {
    this.#options = options;
    this.#delivering = options.channel.direction !== "send";
    this.#source = new Source(options.reactor, options.stdin, () => this.#fill());
    this.#doorbell = options.reactor.add(options.channel.doorbellFd, constants.EPOLLIN, () => this.#rung());
  }

  get done(): boolean {
    return !this.#delivering && this.#sendingDone && this.#drained;
  }

  /** Runs the reactor until both directions have ended. @param stopped  true gives up early
   *  @throws FailureError "gone" when the peer vanished; what stdin, stdout or the channel throw */
  run(stopped: () => boolean): void {
    if (this.#options.channel.direction === "receive") this.#endSending(); // stdin is not touched
    while (!this.done && !stopped()) {
      if (this.#pending) this.#turn();
      if (this.done) break;
      this.#options.reactor.runOnce(this.#pending ? 0 : -1);
      this.#options.onProgress?.(this.#options.flow);
    }
  }

  #turn(): void {
    this.#pending = false;
    this.#deliver();
    this.#fill();
    this.#checkDrained();
  }

  #rung(): void {
    if (this.#options.channel.drainDoorbell() === "hangup") {
      this.#hungUp = true;
      this.#resting?.cancel();
      this.#doorbell.remove(); // it would ring for ever
    } else if (this.#options.channel.doorbellRestMs > 0) this.#rest(this.#options.channel.doorbellRestMs);
    this.#deliver();
    // It had said its end before, and now nobody is left to read ours.
    if (this.#hungUp && !this.#delivering) this.#endSending();
    if (this.#waitsForRoom) {
      this.#waitsForRoom = false;
      this.#fill();
    }
    this.#checkDrained();
  }

  /** Does not listen to a peer that rings for nothing, but for its hang-up. */
  #rest(restMs: number): void {
    if (this.#resting !== undefined) return;
    this.#doorbell.modify(0);
    this.#resting = this.#options.reactor.setTimer(restMs, () => {
      this.#resting = undefined;
      this.#doorbell.modify(constants.EPOLLIN);
    });
  }

  /** stdout has room again. */
  resumeDelivery(): void {
    this.#deliveryBlocked = false;
    this.#deliver();
  }

  /** The user may have brought us to the foreground. */
  resumeInput(): void {
    this.#source.resume();
  }

  #deliver(): void {
    const { channel, flow, sink } = this.#options;
    for (let steps = 0; this.#delivering && !this.#deliveryBlocked; steps++) {
      if (steps >= STEPS_A_TURN) {
        this.#pending = true;
        return;
      }
      const state = flow.deliver(channel, sink);
      if (state === "blocked") this.#deliveryBlocked = true;
      else if (state === "empty" && this.#sleepsOrEnds()) return;
    }
  }

  /** @returns false when data came meanwhile */
  #sleepsOrEnds(): boolean {
    const { channel } = this.#options;
    if (!channel.ended) return channel.armReceive();
    this.#endDelivery();
    return true;
  }

  #endDelivery(): void {
    const { channel, name } = this.#options;
    this.#delivering = false;
    if (channel.peerEnded === "vanished") {
      throw new FailureError(
        "gone",
        `Cannot finish "${name}": the other side vanished before it had sent everything; start it again`,
      );
    }
    // Nobody is left to read what we could still send, or the person at the terminal has no reason to stay.
    if (this.#hungUp || this.#source.isTerminal) this.#endSending();
  }

  #fill(): void {
    const { channel, flow } = this.#options;
    for (let steps = 0; !this.#sendingDone && !this.#waitsForRoom; steps++) {
      if (steps >= STEPS_A_TURN) {
        this.#pending = true;
        return;
      }
      const state = this.#take();
      if (state === "end") this.#endSending();
      else if (state === "full") this.#waitsForRoom = this.#sleepsUntilRoom(channel, flow);
      else if (state === "empty") return this.#source.resume();
    }
  }

  #take(): ReturnType<Flow["take"]> {
    const { channel, flow } = this.#options;
    try {
      return flow.take(channel, this.#source);
    } catch (error) {
      throw this.#explain(error);
    }
  }

  #sleepsUntilRoom(channel: Channel, flow: Flow): boolean {
    try {
      if (!channel.armSend(flow.wantedBytes)) return false;
    } catch (error) {
      throw this.#explain(error);
    }
    this.#source.pause();
    return true;
  }

  #explain(error: unknown): unknown {
    if (!(error instanceof ClosedError)) return error;
    const message = `Cannot send everything to "${this.#options.name}": the other side has gone; start it again`;
    return new FailureError("gone", message, { cause: error });
  }

  #endSending(): void {
    if (this.#sendingDone) return;
    this.#sendingDone = true;
    this.#source.finish();
    this.#options.channel.end();
    this.#pending = true; // to see whether all is read, and whether the other end has come
  }

  /** That everything was sent means little: a full disk over there is noticed when the ring is to be emptied. */
  #checkDrained(): void {
    const { channel, name } = this.#options;
    if (!this.#sendingDone || this.#drained || channel.armDrained()) return;
    if (channel.unreadBytes > 0) {
      throw new FailureError(
        "gone",
        `Cannot finish "${name}": the other side has gone before it had read everything; start it again`,
      );
    }
    this.#drained = true;
  }

  [Symbol.dispose](): void {
    this.#source.pause();
    this.#resting?.cancel();
    this.#doorbell.remove();
  }
}
