/**
 * The broker's connection of a command that stays. When the broker ends, killed or replaced, the next one is found or
 * started, and the command does there what it did before; channels and descriptors that were handed over never notice.
 * Where none can be had it is tried again, later and later, until there is one or the command is told to end. What a
 * broker refuses is final.
 */
import { BrokerLink } from "../client/broker-link.ts";
import { BrokerGone, brokerGone } from "../client/failure.ts";
import { LastingLink } from "../client/lasting-link.ts";
import { type Logger, SILENT } from "../log.ts";
import type { Reactor } from "../transport/reactor.ts";
import { printError } from "./output.ts";

export type OutlivingOptions = {
  /** As listings call us. */
  readonly name: string;
  /** What cannot be done without a broker: "Cannot …". */
  readonly purpose: string;
  readonly reactor: Reactor;
  /** For who does nothing in outlive(). */
  readonly onBack?: (link: BrokerLink) => void;
};

export class OutlivingLink implements Disposable {
  readonly #options: OutlivingOptions;
  readonly #lasting: LastingLink<BrokerLink>;
  #isThere = true;
  #hasComplained = false;
  #isLetGo = false;
  #refusal: Error | undefined;

  /** Connects, starting a broker if there is none, and waits for it. @throws FailureError "no-broker" */
  constructor(options: OutlivingOptions) {
    this.#options = options;
    const connect = { name: options.name, reconnect: false };
    const { approach } = BrokerLink;
    this.#lasting = new LastingLink(
      BrokerLink.connect(connect),
      { connect, approach, logger: this.#logger() },
      { onBack: (link) => this.#onBack(link), onInput: () => undefined, onLost: (cause) => this.#onLost(cause) },
    );
    this.#lasting.attach(options.reactor);
  }

  /** What it is to be told is said here: what is final is thrown. */
  #logger(): Logger {
    const warn = (message: string): void => {
      if (this.#lasting.isOver) return;
      this.#hasComplained = true;
      printError(`shmlink: ${message}\n`);
    };
    return { ...SILENT, warn };
  }

  #onBack(link: BrokerLink): void {
    if (this.#hasComplained) printError("shmlink: connected to a broker again\n");
    this.#hasComplained = false;
    this.#isThere = true;
    this.#options.onBack?.(link);
  }

  #onLost(cause: Error | undefined): void {
    this.#refusal ??= cause;
    if (this.#isLetGo || cause !== undefined) this.#lasting[Symbol.dispose]();
    if (this.#isThere && !this.#lasting.isOver)
      printError("shmlink: the broker has ended; going on with the next one\n");
    this.#isThere = false;
  }

  /** @throws why there will be no broker any more */
  check(): void {
    if (this.#lasting.isOver) throw this.#refusal ?? brokerGone(this.#options.purpose);
  }

  /** Asks the broker something. @returns undefined without one, or when it ended over the question */
  ask<T>(question: (link: BrokerLink) => T): T | undefined {
    const { link } = this.#lasting;
    if (link === undefined) return undefined;
    try {
      return question(link);
    } catch (error) {
      if (!(error instanceof BrokerGone)) throw error;
      if (this.#lasting.link === link) this.#lasting.lose(); // the reactor has not seen it yet
      return undefined;
    }
  }

  /** Does `act` with one broker after the other, until it returns. @param act  throws BrokerGone when its broker has ended
   *  @returns undefined when `isOver` while there was no broker @throws what a broker refuses, and what else `act` throws */
  outlive<R>(act: (link: BrokerLink) => R, isOver: () => boolean): R | undefined {
    while (!isOver()) {
      const done = this.ask((link) => ({ result: act(link) }));
      if (done !== undefined) return done.result;
      this.check();
      if (this.#lasting.link === undefined) this.#options.reactor.runOnce(-1);
    }
    return undefined;
  }

  /** Hears what has come. */
  read(): void {
    this.#lasting.read();
  }

  /** From here on the broker may end. */
  letGo(): void {
    this.#isLetGo = true;
    if (!this.#isThere) this.#lasting[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.#lasting[Symbol.dispose]();
  }
}
