/**
 * TCP sockets of programs on which an option was set that connect() does not look for on each: those that only TCP has,
 * and those that programs seldom set. By SO_COOKIE, until another socket takes its place. Pure.
 */
import type { Cookie } from "./socket-table.ts";

/** Bounds what programs can make us remember; the oldest goes first, and its options then read back as they were born. */
const MAX_TOUCHED = 65_536;

/** The same, of each socket. */
const MAX_UNUSUAL = 16;

const NONE: ReadonlySet<number> = new Set();

/** A copy for somebody who looks for himself, and may add to it. */
export type TouchedMirror = {
  /** @returns false where there is no room */
  add(cookie: Cookie): boolean;
  remove(cookie: Cookie): void;
  put(cookies: Iterable<Cookie>): void;
  takeNoted(visit: (cookie: Cookie) => void): void;
};

export type Touch =
  /** Of those that only TCP has. */
  | "tcp"
  /** Of those alone that a Unix socket has too: each connect() that comes the long way looks for them. */
  | "common";

export class TouchedSockets {
  readonly #cookies: Map<Cookie, Touch> = new Map();
  /** By optionKey(): options that hardly any program sets. */
  readonly #unusual: Map<Cookie, Set<number>> = new Map();
  #mirror: TouchedMirror | undefined;

  /** From now on it has what we have. */
  mirror(mirror: TouchedMirror): void {
    this.#mirror = mirror;
    mirror.put(this.#cookies.keys());
  }

  add(cookie: Cookie, touch: Touch): void {
    this.#remember(cookie, touch);
    if (this.#mirror?.add(cookie) === false) this.#mirror.put(this.#cookies.keys());
  }

  /** An option which is looked for only where it was set. */
  addUnusual(cookie: Cookie, key: number): void {
    this.add(cookie, "tcp");
    const keys = this.#unusual.get(cookie) ?? new Set();
    if (keys.size < MAX_UNUSUAL) this.#unusual.set(cookie, keys.add(key));
  }

  unusual(cookie: Cookie): ReadonlySet<number> {
    return this.#unusual.get(cookie) ?? NONE;
  }

  #remember(cookie: Cookie, touch: Touch): void {
    if (this.#cookies.get(cookie) !== "tcp") this.#cookies.set(cookie, touch);
    if (this.#cookies.size <= MAX_TOUCHED) return;
    for (const oldest of this.#cookies.keys()) return this.delete(oldest);
  }

  /** Whether any is: the cookie of a socket need not be asked for otherwise. */
  get isAny(): boolean {
    return this.#cookies.size > 0;
  }

  of(cookie: Cookie): Touch | undefined {
    return this.#cookies.get(cookie);
  }

  /** Another socket has taken its place. */
  delete(cookie: Cookie): void {
    this.#cookies.delete(cookie);
    this.#unusual.delete(cookie);
    this.#mirror?.remove(cookie);
  }

  /** Learns what the mirror was told. */
  takeNoted(): void {
    this.#mirror?.takeNoted((cookie) => this.#remember(cookie, "common"));
  }
}
