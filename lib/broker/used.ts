/** Time that somebody has used lately. What was used is forgotten little by little. Pure: the time is handed in. */

export type Used = { usedMs: number; atMs: number };

/** How long after somebody has said something others are polite. */
export const HEARD_MS = 20;

/** What may be used for ever without ever counting, as a part of the time. */
const FREE = 0.05;
/** Nobody is told off for more than about a second after he has stopped. */
const MAX_USED_MS = 50;

export function usedMs(used: Used, nowMs: number): number {
  return Math.max(0, used.usedMs - (nowMs - used.atMs) * FREE);
}

export function use(used: Used, ms: number, nowMs: number): void {
  used.usedMs = Math.min(usedMs(used, nowMs) + ms, MAX_USED_MS);
  used.atMs = nowMs;
}
