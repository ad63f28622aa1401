/** Names and ids to records. Knows nothing of connections; ids are never used twice. */
import { hostPort, plainAddress } from "../util/ip-address.ts";
import type { ListingEntry } from "./listing.ts";
import type {
  AnyRecord,
  ChannelRecord,
  ConnectionRecord,
  ContextRecord,
  ListenerRecord,
  OfferRecord,
  ServiceRecord,
  TakeRecord,
} from "./records.ts";
import type { Session } from "./session.ts";

const LOOPBACK_V4 = /^127\./;
const MAX_ENDED = 32;
const ANY = new Set(["0.0.0.0", "::"]);

export class Registry {
  #lastId = 0;
  readonly services: Map<string, ServiceRecord> = new Map();
  readonly channels: Map<number, ChannelRecord> = new Map();
  readonly listeners: Map<number, ListenerRecord> = new Map();
  readonly contexts: Map<number, ContextRecord> = new Map();
  readonly offers: Map<string, OfferRecord> = new Map();
  /** Those that were minted. */
  readonly connections: Map<Session, ConnectionRecord> = new Map();
  /** Who waits for something under a name, longest first. */
  readonly takers: Map<string, Set<TakeRecord>> = new Map();
  /** port → listeners on it, so that resolve does not grow with their number. */
  readonly #byPort: Map<number, Set<ListenerRecord>> = new Map();

  /** Channels that ended a while ago, newest last: who asks for one by name often asks when it is over. */
  readonly #ended: { readonly id: number; readonly name: string; readonly entry: () => ListingEntry }[] = [];

  /** Keeps what a channel was, for a bounded number of channels. @param entry  asked for only when somebody wants to see it */
  remember(id: number, name: string, entry: () => ListingEntry): void {
    this.#ended.push({ id, name, entry });
    if (this.#ended.length > MAX_ENDED) this.#ended.shift();
  }

  /** The channel that ended last of those that `selector` may mean. */
  recall(selector: string): ListingEntry | undefined {
    return this.#ended.findLast(({ name, id }) => name === selector || String(id) === selector)?.entry();
  }

  nextId(): number {
    this.#lastId += 1;
    return this.#lastId;
  }

  /** An id that an earlier broker gave out. */
  reserve(id: number): void {
    this.#lastId = Math.max(this.#lastId, id);
  }

  /** How many records there are. */
  get size(): number {
    const { services, channels, listeners, offers, contexts, connections } = this;
    return services.size + channels.size + listeners.size + offers.size + contexts.size + connections.size;
  }

  get isEmpty(): boolean {
    return this.size === 0 && this.takers.size === 0;
  }

  addTaker(record: TakeRecord): void {
    const waiting = this.takers.get(record.name) ?? new Set();
    this.takers.set(record.name, waiting.add(record));
  }

  removeTaker(record: TakeRecord): void {
    const waiting = this.takers.get(record.name);
    waiting?.delete(record);
    if (waiting?.size === 0) this.takers.delete(record.name);
  }

  addListener(record: ListenerRecord): void {
    this.listeners.set(record.id, record);
    const onPort = this.#byPort.get(record.port) ?? new Set();
    this.#byPort.set(record.port, onPort.add(record));
  }

  removeListener(record: ListenerRecord): void {
    this.listeners.delete(record.id);
    const onPort = this.#byPort.get(record.port);
    onPort?.delete(record);
    if (onPort?.size === 0) this.#byPort.delete(record.port);
  }

  /** The listener with exactly this address and port. */
  findListener(address: string, port: number): ListenerRecord | undefined {
    for (const record of this.#byPort.get(port) ?? []) if (record.address === address) return record;
    return undefined;
  }

  /** Who would answer a connect to this address: an exact match before a wildcard, which stands for the addresses
   *  of this machine and no other. @param isLocal  whether an address that is not loopback is one of ours */
  resolve(address: string, port: number, isLocal: (address: string) => boolean): ListenerRecord | undefined {
    const wanted = destination(plainAddress(address));
    let wildcard: ListenerRecord | undefined;
    for (const record of this.#byPort.get(port) ?? []) {
      if (record.address === wanted) return record;
      if (acceptsAs(record, wanted)) wildcard ??= record;
    }
    return wildcard !== undefined && (isLoopback(wanted) || isLocal(wanted)) ? wildcard : undefined;
  }

  /** Records that a person's `selector` may mean: an id, a service or channel name, tcp:ADDRESS:PORT, a port. */
  select(selector: string): AnyRecord[] {
    const id = /^[1-9]\d{0,15}$/.test(selector) ? Number(selector) : undefined;
    const found: AnyRecord[] = [];
    for (const records of [this.services, this.channels, this.listeners, this.offers, this.contexts, this.connections])
      for (const record of records.values()) if (record.id === id || matches(record, selector)) found.push(record);
    return found;
  }

  *all(): Generator<AnyRecord> {
    yield* this.services.values();
    yield* this.channels.values();
    yield* this.listeners.values();
    yield* this.offers.values();
    yield* this.contexts.values();
    yield* this.connections.values();
  }
}

/** connect(2) takes the unspecified address as loopback, and ::ffff:a.b.c.d as IPv4. */
function destination(address: string): string {
  if (address === "0.0.0.0") return "127.0.0.1";
  if (address === "::") return "::1";
  return address.startsWith("::ffff:") ? address.slice("::ffff:".length) : address;
}

function acceptsAs(record: ListenerRecord, wanted: string): boolean {
  if (!ANY.has(record.address)) return false;
  const isV6 = wanted.includes(":");
  if (record.address === "0.0.0.0") return !isV6;
  return isV6 || !record.v6only;
}

function isLoopback(address: string): boolean {
  return address === "::1" || LOOPBACK_V4.test(address);
}

/** `tcp:127.0.0.1:80`, `tcp:[::1]:80`. */
export function listenerName(address: string, port: number): string {
  return `tcp:${hostPort(address, port)}`;
}

function matches(record: AnyRecord, selector: string): boolean {
  if (record.kind !== "listener") return record.name === selector;
  const { address, port } = record;
  return selector === String(port) || selector === listenerName(address, port) || selector === `tcp:${address}:${port}`;
}
