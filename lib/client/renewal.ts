/**
 * Finding or starting the next broker when ours has ended, and offering there what was offered here. For who blocks and
 * for who awaits; what the new broker refuses is final, whatever else goes wrong is tried again (back-off.ts).
 */
import { clearTimeout, setTimeout } from "node:timers";
import { SyscallError } from "../../ffi/mod.ts";
import { FailureError, ProtocolError } from "../errors.ts";
import { BackOff } from "./back-off.ts";
import { ANSWER_MS, type WaitOutcome } from "./broker-socket.ts";

const FOREVER_MS = 0x7fffffff;

/** What a link tells of its broker. "back": `services` are offered again. "refused": that one is not any more, or with
 *  an empty name, nothing is. "waiting": none can be had now, and the next try is `retryMs` away. */
export type BrokerEvent =
  | { readonly kind: "ended" }
  | { readonly kind: "back"; readonly services: readonly string[] }
  | { readonly kind: "refused"; readonly name: string; readonly error: Error }
  | { readonly kind: "waiting"; readonly error: Error; readonly retryMs: number };

/** What was asked for under a name. */
export type Asked = { readonly name: string; readonly settled: boolean; readonly failure: Error | undefined };

/** The link, as far as it is renewed. */
export type Renewable = {
  readonly closed: boolean;
  /** Whether its connection is of no use. */
  readonly ended: boolean;
  readonly welcomed: boolean;
  /** Connects and says hello, and waits for the answer. @throws FailureError "no-broker", SyscallError, ProtocolError */
  connectAgain(): void;
  /** The same without waiting. @returns who can say why it ended, if it does */
  approach(): () => Error | undefined;
  /** Asks the new broker for the names that were offered. */
  offerAgain(): readonly Asked[];
  waitAsync(until: () => boolean, timeoutMs: number): Promise<WaitOutcome>;
  wait(until: () => boolean, timeoutMs: number): WaitOutcome;
  tell(event: BrokerEvent): void;
};

export class Renewal {
  readonly #link: Renewable;
  readonly #backOff: BackOff = new BackOff();
  #running: Promise<void> | undefined;
  #wakeUp: () => void = () => undefined;
  #toldOfEnd = false;
  /** Why there will be no next broker. */
  #refusal: Error | undefined;

  constructor(link: Renewable) {
    this.#link = link;
    this.#backOff.connected(performance.now());
  }

  /** @param leftMs  how long it may take, -1 for no limit @returns whether there is a broker
   *  @throws ProtocolError when it does not let us in */
  renewNow(leftMs: number): boolean {
    const deadline = performance.now() + leftMs;
    this.#begin();
    while (this.#isNeeded) {
      const delayMs = this.#backOff.next();
      const untilMs = leftMs < 0 ? delayMs : Math.min(delayMs, deadline - performance.now());
      if (untilMs > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, untilMs);
      if (leftMs >= 0 && performance.now() >= deadline) return false;
      try {
        this.#connect();
      } catch (error) {
        this.#failed(error);
      }
    }
    return this.#outcome();
  }

  /** One try, for a request that cannot wait for ever. @throws what connecting throws */
  renewOnce(): void {
    if (!this.#isNeeded) return;
    this.#begin();
    this.#connect();
  }

  #connect(): void {
    this.#link.connectAgain();
    const asked = this.#link.offerAgain();
    this.#finish(
      asked,
      this.#link.wait(() => asked.every(({ settled }) => settled), ANSWER_MS),
    );
  }

  /** renewNow() for an event loop; all who ask wait for the same. */
  async renew(leftMs: number): Promise<boolean> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const over = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, leftMs < 0 ? FOREVER_MS : leftMs); // keeps the process alive, which start() does not
    });
    await Promise.race([this.start(), over]).finally(() => clearTimeout(timer));
    return this.#outcome();
  }

  /** Renews beside whatever else goes on. */
  start(): Promise<void> {
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  /** To be called when the link is closed: nobody waits for the next try. */
  stop(): void {
    this.#wakeUp();
  }

  async #run(): Promise<void> {
    this.#begin();
    while (this.#isNeeded) {
      await this.#sleep(this.#backOff.next());
      if (!this.#isNeeded) return;
      await this.#attemptAsync();
    }
  }

  get #isNeeded(): boolean {
    return !this.#link.closed && this.#link.ended && this.#refusal === undefined;
  }

  #outcome(): boolean {
    if (this.#refusal !== undefined) throw this.#refusal;
    return !this.#link.closed && !this.#link.ended;
  }

  #begin(): void {
    if (!this.#isNeeded || this.#toldOfEnd) return;
    this.#toldOfEnd = true;
    this.#backOff.ended(performance.now());
    this.#link.tell({ kind: "ended" });
  }

  #finish(asked: readonly Asked[], outcome: WaitOutcome): void {
    for (const { name, failure } of asked)
      if (failure !== undefined) this.#link.tell({ kind: "refused", name, error: failure });
    if (outcome !== "done") return; // it has ended again
    this.#toldOfEnd = false;
    this.#backOff.connected(performance.now());
    const services = asked.filter(({ failure }) => failure === undefined).map(({ name }) => name);
    this.#link.tell({ kind: "back", services });
  }

  async #attemptAsync(): Promise<void> {
    const link = this.#link;
    try {
      const explain = link.approach();
      const outcome = await link.waitAsync(() => link.welcomed, -1);
      if (outcome === "ended") return this.#retry(explain() ?? new Error("The broker ends before it answers"));
      const asked = link.offerAgain();
      this.#finish(asked, await link.waitAsync(() => asked.every(({ settled }) => settled), -1));
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error: unknown): void {
    if (error instanceof ProtocolError) {
      this.#refusal = error;
      return this.#link.tell({ kind: "refused", name: "", error });
    }
    const isSystems = error instanceof Error && "syscall" in error; // ffi's and node:fs's
    if (!(error instanceof FailureError || error instanceof SyscallError || isSystems)) throw error;
    this.#retry(error);
  }

  #retry(error: Error): void {
    if (this.#isNeeded) this.#link.tell({ kind: "waiting", error, retryMs: this.#backOff.delayMs });
  }

  #sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, delayMs);
      timer.unref();
      this.#wakeUp = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
