/** Words of the command line as numbers, and numbers for people. */
import { UsageError } from "./usage-error.ts";

const MIN_CAPACITY = 4096;
const MAX_CAPACITY = 2 ** 30;
const FACTORS: Readonly<Record<string, number>> = { "": 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 };

/** "65536", "64K", "1M", "1GiB": bytes of a ring. @throws UsageError */
export function parseCapacity(text: string | undefined, option = "--capacity"): number | undefined {
  if (text === undefined) return undefined;
  const match = /^(\d{1,10})(?:([kmg])(?:i?b)?)?$/i.exec(text);
  const bytes = match === null ? Number.NaN : Number(match[1]) * (FACTORS[(match[2] ?? "").toLowerCase()] ?? 1);
  if (bytes >= MIN_CAPACITY && bytes <= MAX_CAPACITY && Number.isInteger(Math.log2(bytes))) return bytes;
  throw new UsageError(`Cannot use ${option} "${text}": a power of two from 4K to 1G is wanted`);
}

/** --capacity and --max-peer-capacity, as options of listen() and dial(). @throws UsageError */
export function parseSizes(
  capacity: string | undefined,
  mostOfPeer: string | undefined,
): { readonly capacity?: number; readonly maxPeerCapacity?: number } {
  const own = parseCapacity(capacity);
  const peer = parseCapacity(mostOfPeer, "--max-peer-capacity");
  return {
    ...(own === undefined ? {} : { capacity: own }),
    ...(peer === undefined ? {} : { maxPeerCapacity: peer }),
  };
}

/** A count of seconds, fractions allowed. @returns milliseconds @throws UsageError */
export function parseSeconds(text: string, option: string): number {
  const seconds = /^\d{1,7}(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isNaN(seconds)) return Math.round(seconds * 1000);
  throw new UsageError(`Cannot use ${option} "${text}": a number of seconds is wanted`);
}

/** @throws UsageError */
export function parseWhole(text: string, option: string, max: number): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (value <= max) return value;
  throw new UsageError(`Cannot use ${option} "${text}": a whole number up to ${max} is wanted`);
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** "0 B", "1.5 MiB": three figures at most before the point, one after it. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** "0.9 µs", "31 µs". */
export function formatMicroseconds(ns: number): string {
  return `${(ns / 1000).toFixed(ns < 9_950 ? 1 : 0)} µs`;
}

/** "1.2 s", "340 ms", "2 min 5 s". */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}
