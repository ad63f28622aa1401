/**
 * What is remembered of sockets, by SO_COOKIE, which names the kernel object itself for as long as the machine runs:
 * whichever process holds it, under whichever number. Most of what a socket of ours is can be read off its name
 * (names.ts); this is the rest. Pure.
 */
import type { Endpoint } from "./host.ts";
import { TouchedSockets } from "./touched.ts";

export type Cookie = bigint;

/** Bounds what programs can make us remember; the oldest goes first, and then reads back its default. */
const MAX_SOCKETS_WITH_OPTIONS = 65_536;
const MAX_UNACKNOWLEDGED = 1024;
const MAX_BOUND = 4096;

/** An option's level and name. */
export function optionKey(level: number, name: number): number {
  return level * 0x10000 + name;
}

/** What optionKey() was made of. */
export function keyOption(key: number): readonly [level: number, name: number] {
  return [Math.floor(key / 0x10000), key % 0x10000];
}

export type OptionValues = ReadonlyMap<number, Uint8Array>;

/** Different sets of options that are kept once for all sockets that have them. */
const MAX_INTERNED = 1024;

export class SocketTable<Listener> {
  readonly #listeners: Map<Cookie, Listener> = new Map();
  readonly #options: Map<Cookie, OptionValues> = new Map();
  readonly #interned: Map<string, OptionValues> = new Map();
  readonly #bound: Map<Cookie, Endpoint> = new Map();
  readonly touched: TouchedSockets = new TouchedSockets();
  /** How often an answer could not be given. */
  readonly #unacknowledged: Map<Cookie, number> = new Map();

  /** A listener is known by its Unix socket and by the TCP socket that it stands for. */
  addListener(listener: Listener, cookies: readonly Cookie[]): void {
    for (const cookie of cookies) this.#listeners.set(cookie, listener);
  }

  removeListener(listener: Listener): void {
    for (const [cookie, known] of this.#listeners) if (known === listener) this.#listeners.delete(cookie);
  }

  listener(cookie: Cookie): Listener | undefined {
    return this.#listeners.get(cookie);
  }

  get listeners(): ReadonlySet<Listener> {
    return new Set(this.#listeners.values());
  }

  setOption(cookie: Cookie, key: number, value: Uint8Array): void {
    this.#options.set(cookie, this.#intern(new Map(this.#options.get(cookie)).set(key, value)));
    if (this.#options.size > MAX_SOCKETS_WITH_OPTIONS) deleteOldest(this.#options);
  }

  /** Programs set the same options on each of their sockets: one map serves all of those. */
  #intern(values: OptionValues): OptionValues {
    let text = "";
    for (const [key, value] of values) text += `${key} ${value.join(" ")} `;
    const known = this.#interned.get(text);
    if (known !== undefined) return known;
    if (this.#interned.size >= MAX_INTERNED) this.#interned.clear();
    this.#interned.set(text, values);
    return values;
  }

  setOptions(cookie: Cookie, values: OptionValues): void {
    for (const [key, value] of values) this.setOption(cookie, key, value);
  }

  option(cookie: Cookie, key: number): Uint8Array | undefined {
    return this.#options.get(cookie)?.get(key);
  }

  options(cookie: Cookie): OptionValues {
    return this.#options.get(cookie) ?? new Map<number, Uint8Array>();
  }

  /** Where a program had bound a socket before it connected. */
  setBound(cookie: Cookie, local: Endpoint): void {
    this.#bound.set(cookie, local);
    if (this.#bound.size > MAX_BOUND) deleteOldest(this.#bound);
  }

  bound(cookie: Cookie): Endpoint | undefined {
    return this.#bound.get(cookie);
  }

  /** A connection was swapped in and its connect() not yet answered, or a TCP socket listens and its listen() is not: a signal
   *  in between makes the program ask again. */
  expectAcknowledgement(cookie: Cookie): void {
    this.#unacknowledged.set(cookie, this.timesOwed(cookie) + 1);
    if (this.#unacknowledged.size > MAX_UNACKNOWLEDGED) deleteOldest(this.#unacknowledged);
  }

  /** Whether an answer to this socket's connect() or listen() is still owed. */
  owesAcknowledgement(cookie: Cookie): boolean {
    return this.#unacknowledged.has(cookie);
  }

  /** How often a signal came before that answer. */
  timesOwed(cookie: Cookie): number {
    return this.#unacknowledged.get(cookie) ?? 0;
  }

  acknowledge(cookie: Cookie): void {
    this.#unacknowledged.delete(cookie);
  }
}

function deleteOldest(entries: Map<Cookie, unknown> | Set<Cookie>): void {
  for (const oldest of entries.keys()) {
    entries.delete(oldest);
    return;
  }
}
