/**
 * What machine code counts while it answers trapped calls one after the other (machine/trap-path.c), in ticks of the
 * processor's clock: how long a tick is shows only by comparison with ours.
 */
import type { NativeMemory } from "../memory.ts";
import { TrapTargets } from "./targets.ts";

// struct trap_path
const [MOST_TICKS, PASSED, SINCE, KINDS, REACHED] = [22_176, 22_184, 22_192, 22_200, 22_344];
const [NS_EACH_TICK, TRUST_TICKS] = [22_408, 22_608];
/** For so long, at least, it trusts what it has seen of a thread's descriptors. */
const TRUST_MS = 20;
const [TICKS, LONGEST, COUNT_BYTES] = [8, 16, 24];
const NAMES = ["connect", "accept4", "accept", "getsockname", "getpeername", "setsockopt"] as const;

export type TrapCountVisitor = {
  /** Calls of that name that have been answered. */
  readonly calls: (name: string, times: number, totalUs: number, longestUs: number) => void;
  /** Connections to that target that have been made. */
  readonly reached: (target: number, times: number) => void;
};

export class TrapCounts {
  readonly #data: DataView;
  /** All that was ever compared: one time that the processor was taken from us makes no difference. */
  #ticks = 0;
  #ms = 0;

  constructor(memory: NativeMemory) {
    this.#data = memory.data;
  }

  /** For how long calls may be answered from now on; one is, in any case. */
  limit(ms: number): void {
    const ticks = this.#ms > 0 ? (Math.max(ms, 0) * this.#ticks) / this.#ms : 0;
    this.#data.setBigUint64(MOST_TICKS, BigInt(Math.floor(Math.min(ticks, Number.MAX_SAFE_INTEGER))), true);
  }

  #number(at: number): number {
    return Number(this.#data.getBigUint64(at, true));
  }

  /** Takes what was counted. @param ms  how long that took by our clock @returns since when the last call is there, in
   *  ms before the end of it */
  take(ms: number, visitor: TrapCountVisitor): number {
    this.#ticks += this.#number(PASSED);
    this.#ms += ms;
    const ticksEachMs = this.#ticks / this.#ms;
    this.#data.setBigUint64(NS_EACH_TICK, BigInt(Math.round((1e6 / ticksEachMs) * 2 ** 32)), true);
    this.#data.setBigUint64(TRUST_TICKS, BigInt(Math.round(ticksEachMs * TRUST_MS)), true);
    this.#takeKinds(1000 / ticksEachMs, visitor);
    this.#takeReached(visitor);
    return Math.min(this.#number(SINCE) / ticksEachMs, ms);
  }

  #takeKinds(usEachTick: number, { calls }: TrapCountVisitor): void {
    for (const [index, name] of NAMES.entries()) {
      const at = KINDS + index * COUNT_BYTES;
      const times = this.#number(at);
      if (times === 0) continue;
      calls(name, times, this.#number(at + TICKS) * usEachTick, this.#number(at + LONGEST) * usEachTick);
      this.#clear(at, COUNT_BYTES);
    }
  }

  #takeReached({ reached }: TrapCountVisitor): void {
    for (let index = 0; index < TrapTargets.MAX; index++) {
      const at = REACHED + index * 8;
      const times = this.#data.getUint32(at, true);
      if (times === 0) continue;
      reached(index, times);
      this.#clear(at, 8);
    }
  }

  #clear(at: number, lengthBytes: number): void {
    for (let word = at; word < at + lengthBytes; word += 8) this.#data.setBigUint64(word, 0n, true);
  }
}
