/**
 * The broker as a supervisor of wrapped programs needs it (the Registry of lib/wrap, by shape). A broker that goes away
 * must not hurt the program: nothing waits for the next one, and not for long for one that is silent. Meanwhile what is
 * asked has no answer, so connections go over TCP; listeners, old and new, are registered with the next one, or when it
 * answers again, one after the other, so that it is clear which of them a refusal is about.
 */

import { type BorrowedFd, duplicateFd, type OwnedFd } from "../../ffi/mod.ts";
import { FailureError, ProtocolError } from "../errors.ts";
import type { Logger } from "../log.ts";
import { SHMLINK_MANAGER_V1_LISTENER_FLAGS as FLAGS } from "../protocol/shmlink-v1.gen.ts";
import type { Reactor } from "../transport/reactor.ts";
import { hostPort } from "../util/ip-address.ts";
import { BrokerQuery } from "./broker-query.ts";
import type { ConnectOptions } from "./connect.ts";
import { brokerGone } from "./failure.ts";
import { LastingLink } from "./lasting-link.ts";
import type { Listener, ListenerOptions } from "./listener.ts";
import { Patience } from "./patience.ts";

type Request = {
  readonly address: string;
  readonly port: number;
  readonly path: string;
  readonly v6only: boolean;
  readonly noTcp: boolean;
  readonly pid: number;
  readonly counters: BorrowedFd;
};

/** A listener for as long as the program has it, whichever broker knows of it. */
type Kept = {
  readonly options: ListenerOptions & { readonly counters: OwnedFd };
  /** As the present broker has it, or was asked to have it. */
  listener: Listener | undefined;
};

export type ListenerRegistryOptions = {
  readonly connect: ConnectOptions;
  readonly logger: Logger;
};

export class ListenerRegistry implements Disposable {
  readonly #lasting: LastingLink;
  readonly #patience: Patience;
  readonly #logger: Logger;
  readonly #kept: Set<Kept> = new Set();
  /** Whose answer is awaited. */
  #asked: Kept | undefined;

  private constructor(first: BrokerQuery | undefined, options: ListenerRegistryOptions) {
    this.#logger = options.logger;
    const { approach } = BrokerQuery;
    this.#lasting = new LastingLink(
      first,
      { ...options, approach },
      {
        onBack: () => this.#registerNext(),
        onInput: () => this.#readAnswer(),
        onLost: (cause) => this.#onLost(cause),
      },
    );
    this.#patience = new Patience(this.#lasting);
  }

  /** Connects, starting a broker if there is none, and waits for it. @throws FailureError "no-broker" */
  static connect(options: ListenerRegistryOptions): ListenerRegistry {
    return new ListenerRegistry(BrokerQuery.connect(options.connect), options);
  }

  /** Connects once it is attached. */
  static later(options: ListenerRegistryOptions): ListenerRegistry {
    return new ListenerRegistry(undefined, options);
  }

  /** Whether there is a broker, and it answers. */
  isServed(): boolean {
    if (this.#patience.isSilent) return false;
    return this.#lasting.ask((link) => this.#patience.wait(link, link.requestSync())) === true;
  }

  /** From here on it looks after its connection. To be called once. */
  attach(reactor: Reactor): void {
    this.#patience.attach(reactor);
    this.#lasting.attach(reactor);
  }

  /** Without a broker, with the next one, and once it answers with one that is silent. @throws FailureError name-in-use, denied, quota; gone when none will come */
  register(request: Request): { readonly id: number; close(): void } {
    const { v6only, noTcp, counters, ...rest } = request;
    const flags = (v6only ? FLAGS.v6only : 0) | (noTcp ? FLAGS.no_tcp : 0);
    const kept: Kept = { options: { ...rest, flags, counters: duplicateFd(counters) }, listener: undefined };
    try {
      this.#registerNow(kept);
      this.#kept.add(kept);
    } catch (error) {
      kept.options.counters.close();
      throw error;
    } finally {
      this.#readAnswer();
    }
    return {
      get id() {
        return kept.listener?.id ?? 0;
      },
      close: () => this.#withdraw(kept),
    };
  }

  /** It has no listener afterwards when it has to wait. */
  #registerNow(kept: Kept): void {
    const { link } = this.#lasting;
    try {
      if (link !== undefined) return this.#registerWith(link, kept);
    } catch (error) {
      const isAnswer = error instanceof FailureError && error.code !== "gone";
      if (isAnswer) throw error;
      this.#lasting.lose(error);
      if (error instanceof ProtocolError) throw error; // the next one would say the same
    }
    if (this.#lasting.isOver) throw brokerGone("register a listener");
  }

  #registerWith(link: BrokerQuery, kept: Kept): void {
    if (this.#patience.isSilent) return;
    const listener = this.#request(link, kept);
    if (this.#patience.wait(link, () => listener.settled)) {
      kept.listener = listener;
      if (listener.failure === undefined) return;
      listener.close();
      throw listener.failure;
    }
    if (this.#asked !== undefined) return listener.close(); // its turn comes
    kept.listener = listener;
    this.#asked = kept;
  }

  #request(link: BrokerQuery, kept: Kept): Listener {
    return link.requestListener(kept.options, (failure) => this.#refused(kept, failure));
  }

  #registerNext(): void {
    if (this.#asked !== undefined || this.#patience.isSilent) return;
    for (const kept of this.#kept) {
      if (kept.listener !== undefined) continue;
      kept.listener = this.#lasting.ask((link) => this.#request(link, kept));
      if (kept.listener !== undefined) this.#asked = kept;
      return;
    }
  }

  #readAnswer(): void {
    const asked = this.#asked;
    if (asked?.listener?.settled === true) {
      this.#asked = undefined; // first: somebody else may be asked for next
      const { failure } = asked.listener;
      if (!this.#kept.has(asked)) this.#letGo(asked);
      else if (failure !== undefined) this.#refused(asked, failure);
    }
    this.#registerNext();
  }

  #onLost(cause: ProtocolError | undefined): void {
    this.#patience.reset();
    const asked = this.#asked;
    this.#asked = undefined;
    if (asked !== undefined && cause !== undefined) this.#refused(asked, cause);
    for (const kept of this.#kept) kept.listener = undefined;
  }

  /** Or revoked. Not asked for again: the next answer would be the same. */
  #refused(kept: Kept, { message }: Error): void {
    if (!this.#kept.has(kept)) return; // it is withdrawn, or it is awaited, and thrown
    const { address, port } = kept.options;
    this.#logger.warn(`Wrapped clients do not find tcp:${hostPort(address, port)} any longer: ${message}`);
    this.#withdraw(kept);
  }

  /** Safe to call twice. */
  #withdraw(kept: Kept): void {
    if (!this.#kept.delete(kept)) return;
    kept.options.counters.close();
    if (this.#asked !== kept) this.#letGo(kept); // else with its answer: what the broker says next is about it
  }

  #letGo(kept: Kept): void {
    this.#lasting.ask(() => kept.listener?.close());
    kept.listener = undefined;
  }

  /** Undefined when nobody registered listens there, or when there is no broker to be asked. */
  resolve(address: string, port: number): { readonly path: string; readonly id: number } | "silent" | undefined {
    if (this.#patience.isSilent) return "silent";
    const answer = this.#lasting.ask((link) => {
      const resolution = link.requestResolution(address, port);
      const isAnswered = this.#patience.wait(link, () => resolution.answer !== undefined);
      return isAnswered ? resolution.answer : "silent";
    });
    this.#readAnswer(); // it may have come before the one that was waited for
    return answer === "none" ? undefined : answer;
  }

  reportFallback(address: string, port: number, reason: string): void {
    this.#lasting.ask((link) => link.reportFallback(address, port, reason));
  }

  [Symbol.dispose](): void {
    this.#lasting[Symbol.dispose]();
    for (const { options } of this.#kept) options.counters.close();
    this.#kept.clear();
  }
}
