/** What a profile measures and what it looks like: shared by those who measure and those who draw. Runs on any runtime. */

export const SIZES: readonly number[] = [8, 64, 512, 4096, 32_768, 262_144, 1_048_576];

export type Placement = "two" | "one";

/** Nanoseconds. */
export type Percentiles = { readonly p50: number; readonly p99: number; readonly p999: number };

export type SizeProfile = {
  readonly size: number;
  readonly rttNs: Percentiles;
  /** Both sides read in place, on a trusted channel. */
  readonly trustedRttNs?: Percentiles;
  readonly messagesPerSecond: number;
  /** In place, on a trusted channel. */
  readonly trustedMessagesPerSecond?: number;
};

export type SideProfile = {
  /** The first message and its answer between two programs that have just started, microseconds. */
  readonly coldUs?: number;
  /** From SIGKILL to the end of a blocked receive, microseconds. */
  readonly deathUs?: number;
  /** Share of messages of 64 bytes that went without a doorbell. */
  readonly wakeupsSaved?: number;
  readonly sizes: SizeProfile[];
};

export type Series = SideProfile & { readonly name: string; readonly placement: Placement };

const MIB = 2 ** 20;

export function capacityFor(size: number): number {
  return size < MIB ? MIB : 4 * MIB;
}

/** How often, so that every size takes some tens of milliseconds. */
export function countFor(size: number, kind: "rtt" | "throughput", placement: string): number {
  const most = kind === "throughput" ? 150_000 : placement === "one" ? 3_000 : 10_000;
  const bytes = (kind === "throughput" ? 64 : 32) * MIB;
  return Math.max(100, Math.min(most, Math.trunc(bytes / size)));
}

export function percentilesOf(times: Float64Array): Percentiles {
  const sorted = times.sort();
  const at = (share: number): number =>
    Math.round(sorted[Math.min(sorted.length - 1, Math.trunc(sorted.length * share))] ?? 0);
  return { p50: at(0.5), p99: at(0.99), p999: at(0.999) };
}

/** The middle one of an odd number of measurements, by what `of` says of them. */
export function middle<T>(all: readonly T[], of: (each: T) => number): T {
  const found = all.toSorted((a, b) => of(a) - of(b))[all.length >> 1];
  if (found === undefined) throw new RangeError("Cannot take the middle of no measurements");
  return found;
}
