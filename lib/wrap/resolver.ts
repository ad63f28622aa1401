/**
 * Who listens at an address, asked of the registry and remembered for a moment: a client that connects again and again
 * would otherwise wait for the broker each time. Only what was found is remembered, and what turns out to be wrong is
 * forgotten, so a server that comes is seen at once, and one that went is asked about again. While the registry is silent
 * what it said last counts.
 */
import { formatHost } from "./host.ts";
import { parseListenerPath } from "./names.ts";
import type { Registry, Resolution } from "./registry.ts";

/** For so long a wildcard's listener is taken for that of an address, which another one may listen on by then. */
const TRUST_MS = 50;
/** No other can be registered for the very address that one listens on, and when that one ends its path refuses
 *  connections. Left to be noticed are a policy that has changed, and a supervisor that died before its program. */
const TRUST_EXACT_MS = 500;
const MAX_ADDRESSES = 256;

type Known = { readonly resolution: Resolution; readonly untilMs: number };

export class Resolver {
  readonly #registry: Registry;
  readonly #known: Map<string, Known> = new Map();

  /** Whether the last answer is for want of one. */
  isSilent = false;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  resolve(address: string, port: number): Resolution | undefined {
    const key = `${address} ${port}`;
    const known = this.#known.get(key);
    const nowMs = performance.now();
    if (known !== undefined && known.untilMs > nowMs) return known.resolution;
    this.#known.delete(key);
    const answer = this.#registry.resolve(address, port);
    this.isSilent = answer === "silent";
    const resolution = answer === "silent" ? known?.resolution : answer;
    if (resolution === undefined) return undefined;
    if (this.#known.size >= MAX_ADDRESSES) this.#known.clear();
    this.#known.set(key, { resolution, untilMs: nowMs + trustMs(address, port, resolution) });
    return resolution;
  }

  /** For how long that path is remembered, if it is. */
  untilMs(address: string, port: number, path: string): number | undefined {
    const known = this.#known.get(`${address} ${port}`);
    return known?.resolution.path === path ? known.untilMs : undefined;
  }

  /** @returns whether it was remembered, so that it is worth asking again */
  forget(address: string, port: number): boolean {
    return this.#known.delete(`${address} ${port}`);
  }
}

/** A path that a rule has chosen does not say where its listener listens. */
function trustMs(address: string, port: number, { path }: Resolution): number {
  const local = parseListenerPath(path)?.local;
  return local?.port === port && formatHost(local.host) === address ? TRUST_EXACT_MS : TRUST_MS;
}
