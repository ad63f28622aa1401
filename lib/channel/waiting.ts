/** How a synchronous call waits: first looking, then asleep on the doorbell. */
import { FailureError } from "../errors.ts";
import { EMPTY } from "../ring/consumer.ts";
import { AdaptiveSpin } from "./adaptive-spin.ts";
import { ChannelEnd, type ChannelOptions, type ChannelParts } from "./end.ts";

export const NEVER: number = Number.POSITIVE_INFINITY;

export class WaitingEnd extends ChannelEnd {
  readonly #spin: AdaptiveSpin;
  readonly #dataReady = (): boolean => this.consumer.next() !== EMPTY;
  readonly #spaceReady = (): boolean => this.producer.hasRoom(this.#wantedBytes);
  #wantedBytes = 0;

  constructor(parts: ChannelParts, options: ChannelOptions = {}) {
    super(parts, options);
    this.#spin = new AdaptiveSpin(options.spinUs);
  }

  /** How often to look for a message before awaitData(). */
  protected get looks(): number {
    return this.#spin.looks;
  }

  /** After a look that found no message. @returns false at the end, or when the time was up at that look already: neither
   *  parts of a message without an end nor a doorbell that never stops make it longer */
  protected awaitData(deadline: number): boolean {
    if (this.ended) return false;
    const inTime = timeLeft(deadline) !== 0;
    if (inTime && this.#spin.run(this.#dataReady)) return true;
    if (!this.armReceive()) return inTime;
    const rung = this.#sleep(deadline);
    this.consumer.disarmData();
    this.tookDoorbell();
    return inTime ? rung || this.consumer.next() !== EMPTY : this.doorbell.hungUp;
  }

  /** @returns false when the time was up */
  #sleep(deadline: number): boolean {
    const rung = this.doorbell.wait(timeLeft(deadline));
    const restMs = rung ? this.noteWake() : 0;
    if (restMs > 0 && !this.doorbell.hungUp) {
      this.doorbell.awaitHangUp(deadline === NEVER ? restMs : Math.min(restMs, timeLeft(deadline)));
    }
    return rung;
  }

  /** @param deadline  by performance.now() @throws FailureError "timeout" */
  protected awaitSpace(length: number, deadline: number): void {
    this.#wantedBytes = length;
    const inTime = timeLeft(deadline) !== 0;
    if (inTime && this.#spin.run(this.#spaceReady)) return;
    if (!this.armSend(length)) return;
    const rung = this.#sleep(deadline);
    this.producer.disarmSpace();
    this.tookDoorbell();
    if (!(rung && inTime) && !this.doorbell.hungUp && !this.producer.hasRoom(length)) {
      throw new FailureError("timeout", `Cannot send on channel "${this.channelId}": the peer made no room in time`);
    }
  }
}

/** Milliseconds until then, for poll(2): -1 for never. */
export function timeLeft(deadline: number): number {
  return deadline === NEVER ? -1 : Math.max(0, Math.ceil(deadline - performance.now()));
}

/** What awaitSpace() throws when the time was up. */
export function isTimeout(error: unknown): error is FailureError {
  return error instanceof FailureError && error.code === "timeout";
}
