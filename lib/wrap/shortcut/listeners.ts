/** Whose connections machine code accepts: listeners of which one has been accepted the long way. */
import { TrapListeners } from "../../../ffi/mod.ts";
import { LOOPBACK_V4 } from "../host.ts";
import type { WrappedListener } from "../listener.ts";
import { asItIsSet } from "../options.ts";
import { socketAddress } from "../socket.ts";
import type { Cookie } from "../socket-table.ts";

export class KnownListeners {
  readonly #places: TrapListeners;
  readonly #listeners: (WrappedListener | undefined)[] = [];
  #next = 0;

  constructor(places: TrapListeners) {
    this.#places = places;
  }

  /** @param cookie  of its Unix socket */
  learn(listener: WrappedListener, cookie: Cookie): void {
    if (this.#listeners.includes(listener)) return;
    const index = this.#next;
    this.#next = (index + 1) % TrapListeners.MAX;
    const { name, address, inheritance, counters } = listener;
    const client = socketAddress(name.domain, { host: LOOPBACK_V4, port: 0 });
    const inherited = inheritance.options.map(({ option, value }) => ({
      level: option[0],
      name: option[1],
      value: asItIsSet(option, value),
    }));
    this.#listeners[index] = listener;
    this.#places.set(index, { cookie, address, client, options: inherited, counters: counters.fd });
  }

  /** @throws Error when nobody is known there */
  at(index: number): WrappedListener {
    const listener = this.#listeners[index];
    if (listener === undefined) throw new Error(`Connections of listener ${index} are taken, and nobody knows it`);
    return listener;
  }

  forget(listener: WrappedListener): void {
    const index = this.#listeners.indexOf(listener);
    if (index < 0) return;
    this.#listeners[index] = undefined;
    this.#places.set(index, undefined);
  }
}
