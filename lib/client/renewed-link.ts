/**
 * A connection to the broker that an event loop can wait on, and that comes back when the broker ends (renewal.ts).
 * What was asked of the old broker has failed with it; what is offered is offered to the next one again.
 */
import { constants, type OwnedFd, socketpair } from "../../ffi/mod.ts";
import { AsyncDoorbell } from "../channel/async-doorbell.ts";
import { ProtocolError } from "../errors.ts";
import { BrokerQuery } from "./broker-query.ts";
import { ANSWER_MS, type WaitOutcome } from "./broker-socket.ts";
import { type ConnectOptions, connectWith, isHandedDown, reach } from "./connect.ts";
import { BrokerGone } from "./failure.ts";
import { type Asked, type Renewable, Renewal } from "./renewal.ts";

export abstract class RenewedLink extends BrokerQuery {
  readonly #options: ConnectOptions;
  /** Undefined when this connection does not come back. */
  readonly #renewal: Renewal | undefined;
  #doorbell: AsyncDoorbell | undefined;
  #doorbellFd: OwnedFd | undefined;

  /** Use connect(). Takes `fd`. */
  protected constructor(fd: OwnedFd, options: ConnectOptions) {
    super(fd);
    this.#options = options;
    if (options.reconnect !== false && !isHandedDown(options.env)) this.#renewal = new Renewal(this.#renewable());
  }

  protected override makeDoorbell(options: ConnectOptions): OwnedFd {
    if (options.wake !== true) return super.makeDoorbell(options);
    const [ours, theirs] = socketpair(constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
    this.#closeDoorbell();
    this.#doorbellFd = ours;
    this.#doorbell = new AsyncDoorbell(ours, { onHangUp: () => void this.#onHangUp() });
    return theirs;
  }

  #closeDoorbell(): void {
    this.#doorbell?.close();
    this.#doorbell = undefined;
    this.#doorbellFd?.close();
  }

  /** Nobody may be waiting in accept just now: a service is offered again all the same. */
  async #onHangUp(): Promise<void> {
    if (this.#renewal === undefined || !this.offers) return;
    try {
      await Promise.resolve(); // who is waiting comes first, and hears of what the broker said last
      if ((await this.waitAsync(() => false, -1)) === "ended") await this.#renewal.start();
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#options.onBroker?.({ kind: "refused", name: "", error });
    }
  }

  #renewable(): Renewable {
    const link = this;
    return {
      get closed() {
        return link.closed;
      },
      get ended() {
        return link.ended;
      },
      get welcomed() {
        return link.welcome !== undefined;
      },
      connectAgain: () => this.#connectAgain(),
      approach: () => this.#approach(),
      offerAgain: () => this.offerAgain(),
      wait: (until, timeoutMs) => this.wait(until, timeoutMs),
      waitAsync: (until, timeoutMs) => this.waitAsync(until, timeoutMs),
      tell: (event) => this.#options.onBroker?.(event),
    };
  }

  #connectAgain(): void {
    // Who asks again and again need not wait at a door where there is no room: each try would take longer than all may.
    connectWith({ ...this.#options, patienceMs: 0 }, (fd) => {
      this.adopt(fd);
      return { hello: (options) => this.hello(options), [Symbol.dispose]: () => this.abandon() };
    });
  }

  #approach(): () => Error | undefined {
    const { fd, explain } = reach(this.#options);
    this.adopt(fd);
    this.greet(this.#options);
    return explain;
  }

  /** Whether anything is to be offered to the next broker. */
  protected get offers(): boolean {
    return false;
  }

  /** Asks the next broker for what was offered. */
  protected offerAgain(): readonly Asked[] {
    return [];
  }

  protected override ask<T>(act: () => T): T {
    try {
      return act();
    } catch (error) {
      if (!this.#isOutlived(error)) throw error;
    }
    this.#renewal?.renewOnce();
    return act();
  }

  /** ask() for an event loop. */
  protected async askAsync<T>(act: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (error) {
      if (!this.#isOutlived(error)) throw error;
    }
    await this.#renewal?.renew(ANSWER_MS);
    return await act();
  }

  /** Whether it failed only because the broker has ended, which may have been long ago. */
  #isOutlived(error: unknown): boolean {
    return this.#renewal !== undefined && !this.closed && error instanceof BrokerGone;
  }

  /** Waits for the next broker. @returns whether there is one @throws ProtocolError when it does not let us in */
  renewNow(leftMs: number): boolean {
    return this.#renewal?.renewNow(leftMs) === true;
  }

  /** renewNow() for an event loop. */
  async renew(leftMs: number): Promise<boolean> {
    return (await this.#renewal?.renew(leftMs)) === true;
  }

  /** wait() for an event loop. @param timeoutMs  -1 for no limit */
  async waitAsync(until: () => boolean, timeoutMs: number): Promise<WaitOutcome> {
    if (this.#doorbell === undefined && !this.closed)
      throw new TypeError("Cannot wait asynchronously: connect with { wake: true }");
    const { generation } = this;
    let expired = false;
    const expire = (): void => {
      expired = true;
      this.#doorbell?.notify();
    };
    const timer = timeoutMs < 0 ? undefined : setTimeout(expire, timeoutMs);
    try {
      for (;;) {
        const state = this.dispatch();
        if (until()) return "done";
        if (state === "ended" || generation !== this.generation) return "ended";
        if (expired) return "timeout";
        await this.#doorbell?.wait();
      }
    } finally {
      clearTimeout(timer);
    }
  }

  override close(): void {
    super.close();
    this.#closeDoorbell();
    this.#renewal?.stop();
  }
}
