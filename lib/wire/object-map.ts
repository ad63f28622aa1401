/**
 * Which ids of a connection mean something. Both ends keep one map: the client names what it creates from 2 upwards,
 * the server from 0xff000000 (libwayland's WL_SERVER_ID_START). Pure; what an object *is* comes in as T.
 *
 * An id that was let go may still be named by messages under way, so it becomes a zombie:
 * - ours, let go by us: until the peer acknowledges (delete_id, or its own destructor request), then it is reused
 * - the peer's: until the peer reuses it
 * Ids are handed out densely, lowest new one first, because libwayland refuses gaps.
 */
import type { ObjectId } from "../util/brand.ts";

/** wl_display, there on both sides without anybody creating it. */
export const DISPLAY_ID = 1 as ObjectId; // the one id that is known without being granted

const RANGES = {
  client: { first: 2, last: 0xfeffffff },
  server: { first: 0xff000000, last: 0xffffffff },
} as const;

export type Side = keyof typeof RANGES;

export type ObjectMapOptions = {
  /** Who we are: our range is the one we allocate from. */
  readonly side: Side;
  /** Most zombies kept; the oldest goes first. For a side that must not let its peer pile them up. */
  readonly maxZombies?: number;
};

export class ObjectMap<T> {
  readonly #own: (typeof RANGES)[Side];
  readonly #peer: (typeof RANGES)[Side];
  readonly #maxZombies: number;
  readonly #live = new Map<number, T>();
  readonly #zombies = new Map<number, T>();
  readonly #free: ObjectId[] = [];
  #next: number;

  constructor({ side, maxZombies = Number.POSITIVE_INFINITY }: ObjectMapOptions) {
    this.#own = RANGES[side];
    this.#peer = RANGES[side === "client" ? "server" : "client"];
    this.#maxZombies = maxZombies;
    this.#next = this.#own.first;
  }

  /** Objects that live, wl_display among them once it was added. */
  get size(): number {
    return this.#live.size;
  }

  /** Puts in wl_display. */
  addDisplay(value: T): void {
    this.#live.set(DISPLAY_ID, value);
  }

  /** A new id of our own range. @throws RangeError when all of them are in use */
  allocate(value: T): ObjectId {
    const id = this.#free.pop() ?? this.#fresh();
    this.#live.set(id, value);
    return id;
  }

  /** Takes in an id that the peer chose. */
  insert(id: number, value: T): "inserted" | "in-use" | "wrong-range" {
    if (!isWithin(this.#peer, id)) return "wrong-range";
    if (this.#live.has(id)) return "in-use";
    this.#zombies.delete(id);
    this.#live.set(id, value);
    return "inserted";
  }

  get(id: number): T | undefined {
    return this.#live.get(id);
  }

  /** What an id was that has been let go, while messages for it may still come. */
  getZombie(id: number): T | undefined {
    return this.#zombies.get(id);
  }

  /** Lets a live id go and remembers it as a zombie. False when it does not live. */
  bury(id: number): boolean {
    const value = this.#live.get(id);
    if (value === undefined || !this.#live.delete(id)) return false;
    this.#zombies.set(id, value);
    if (this.#zombies.size > this.#maxZombies) this.#evictOldest();
    return true;
  }

  /** Forgets an id, live or zombie: no message can name it any more. One of ours is reused. False when it was neither. */
  release(id: ObjectId): boolean {
    const known = this.#live.delete(id) || this.#zombies.delete(id);
    if (known && isWithin(this.#own, id)) this.#free.push(id);
    return known;
  }

  #fresh(): ObjectId {
    if (this.#next > this.#own.last)
      throw new RangeError("Cannot create an object: all ids of the connection are in use");
    this.#next += 1;
    return (this.#next - 1) as ObjectId; // this is the place where ids are made
  }

  /** An evicted id of our own is never reused: the peer may still name it. */
  #evictOldest(): void {
    for (const id of this.#zombies.keys()) {
      this.#zombies.delete(id);
      return;
    }
  }
}

/** Whether the client, and not the server, creates objects with this id: only those are acknowledged by delete_id. */
export function isClientId(id: number): boolean {
  return isWithin(RANGES.client, id);
}

function isWithin(range: { readonly first: number; readonly last: number }, id: number): boolean {
  return id >= range.first && id <= range.last;
}
