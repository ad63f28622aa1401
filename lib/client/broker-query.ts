/** A connection to the broker for who asks and registers, without channels: `ls`, `inspect`, `wrap`. */
import { duplicateFd, type OwnedFd } from "../../ffi/mod.ts";
import type { FailureError } from "../errors.ts";
import { checkString } from "./arguments.ts";
import { type ConnectOptions, connectWith, type Reached, reach } from "./connect.ts";
import { type Entry, entryOf } from "./entry.ts";
import { GreetedLink } from "./greeted-link.ts";
import { Listener, type ListenerOptions } from "./listener.ts";

/** Who listens somewhere, once the broker has said it. */
export type Resolution = { answer: { readonly path: string; readonly id: number } | "none" | undefined };

/** A connection whose welcome has not come yet, and who can say why it ended, if it does. */
export type Approached<L> = { readonly link: L; readonly explain: Reached["explain"] };

export class BrokerQuery extends GreetedLink {
  /** Connects, starts a broker if there is none, and says hello. Blocks until the broker has answered.
   *  @throws FailureError "no-broker": none answers and none could be started */
  static connect(options: ConnectOptions): BrokerQuery {
    return connectWith(options, (fd) => new BrokerQuery(fd));
  }

  /** Connects without waiting: watch `fd` and dispatch() until there is a `welcome`.
   *  @throws FailureError "no-broker", SyscallError */
  static approach(options: ConnectOptions): Approached<BrokerQuery> {
    return BrokerQuery.approachWith(options, (fd) => new BrokerQuery(fd));
  }

  protected static approachWith<L extends BrokerQuery>(
    options: ConnectOptions,
    make: (fd: OwnedFd) => L,
  ): Approached<L> {
    const { fd, explain } = reach(options);
    const link = make(fd);
    try {
      link.greet(options);
      return { link, explain };
    } catch (error) {
      link.close();
      throw error;
    }
  }

  /** What the broker knows: everything, or what a name or id means. */
  list(selector = ""): Entry[] {
    checkString(selector, "what to list");
    return this.ask(() => this.#list(selector));
  }

  #list(selector: string): Entry[] {
    const id = this.connection.newObject("shmlink_listing_v1");
    const entries: Entry[] = [];
    let done = false;
    this.sinks.set(id, ({ event }) => {
      if (event.kind === "entry") entries.push(entryOf(event));
      else if (event.kind === "done") done = true;
    });
    this.requestNewest({ kind: "list", id, selector });
    this.answer(() => done, "the broker's listing");
    this.sinks.delete(id);
    return entries;
  }

  /** Registers a wrapped listener; the counters stay the caller's. dispatch() or wait() until it is settled.
   *  @param onRevoked  hears that it was registered and is not any more */
  requestListener(options: ListenerOptions, onRevoked: (failure: FailureError) => void): Listener {
    const id = this.connection.newObject("shmlink_listener_v1");
    const listener = new Listener(this, id, onRevoked);
    this.sinks.set(id, (message) => listener.handle(message));
    const { counters, ...rest } = options;
    this.request({ kind: "register_listener", id, ...rest, counters: duplicateFd(counters) });
    this.connection.flush();
    return listener;
  }

  /** Asks who listens on a TCP address. dispatch() or wait() until there is an answer. */
  requestResolution(address: string, port: number): Resolution {
    const id = this.connection.newObject("shmlink_resolution_v1");
    const resolution: Resolution = { answer: undefined };
    this.sinks.set(id, ({ event }) => {
      resolution.answer = event.kind === "found" ? { path: event.path, id: event.listenerId } : "none";
      this.sinks.delete(id);
    });
    this.request({ kind: "resolve", id, address, port });
    this.connection.flush();
    return resolution;
  }

  /** Tells the broker that a connection to a registered listener went over TCP after all. */
  reportFallback(address: string, port: number, reason: string): void {
    this.request({ kind: "report_fallback", address, port, reason });
    this.connection.flush();
  }
}
