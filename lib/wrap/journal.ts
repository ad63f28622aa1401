/**
 * What a supervisor did and why, for `--explain` and `--trace`: each trapped call with how long its answer took, and
 * for each listen and connect where it went, by which rule, and what stood in the way. Bounded, whatever a program does.
 */
import { writeSync } from "node:fs";
import { howMany } from "../util/how-many.ts";

export type Outcome = "unix" | "tcp" | "refused" | "nowhere";

export type Decision = {
  readonly call: "listen" | "connect";
  readonly thread: number;
  readonly address: string;
  readonly port: number;
  readonly outcome: Outcome;
  /** As it was written; undefined where none applied. */
  readonly rule?: string | undefined;
  readonly reason?: string | undefined;
  readonly path?: string | undefined;
};

export type TrapCount = { readonly call: string; count: number; totalUs: number; longestUs: number };
export type DecisionCount = Omit<Decision, "thread"> & { count: number };

export type Summary = {
  readonly traps: readonly TrapCount[];
  readonly decisions: readonly DecisionCount[];
  /** Lines that the trace lacks. */
  readonly lostLines: number;
};

/** A descriptor for JSON lines, and who is told, once, that it takes no more. */
export type Trace = { readonly fd: number; readonly onLoss: (error: Error) => void };

const MAX_DECISIONS = 256;

export class Journal {
  readonly #trace: Trace | undefined;
  readonly #traps: Map<string, TrapCount> = new Map();
  readonly #decisions: Map<string, DecisionCount> = new Map();
  readonly #start: number = performance.now();
  #lostLines = 0;
  /** Whether a line was written in part. */
  #isTorn = false;

  constructor(trace?: Trace) {
    this.#trace = trace;
  }

  /** @param answer  made into words where there is a trace */
  trap(call: string, thread: number, us: number, answer: () => string): void {
    this.traps(call, 1, us, us);
    if (this.#trace === undefined) return;
    this.#write({ event: "trap", call, thread, us: Math.round(us * 10) / 10, answer: answer() });
  }

  /** Calls of which nothing but that is known. */
  traps(call: string, times: number, totalUs: number, longestUs: number): void {
    let known = this.#traps.get(call);
    if (known === undefined) {
      known = { call, count: 0, totalUs: 0, longestUs: 0 };
      this.#traps.set(call, known);
    }
    known.count += times;
    known.totalUs += totalUs;
    known.longestUs = Math.max(known.longestUs, longestUs);
  }

  /** Whether each call is written down: none may be answered unseen then. */
  get isTracing(): boolean {
    return this.#trace !== undefined;
  }

  /** @returns what counts it; undefined where there are too many */
  decide(decision: Decision): DecisionCount | undefined {
    const { call, address, port, outcome, rule, reason, path } = decision;
    const key = `${call} ${address} ${port} ${outcome}\0${rule}\0${reason}\0${path}`;
    let known = this.#decisions.get(key);
    if (known !== undefined) known.count += 1;
    else if (this.#decisions.size < MAX_DECISIONS) {
      const { thread: _, ...rest } = decision;
      known = { ...rest, count: 1 };
      this.#decisions.set(key, known);
    }
    if (this.#trace !== undefined) this.#write({ event: "decision", ...decision });
    return known;
  }

  summary(): Summary {
    const lists = { traps: [...this.#traps.values()], decisions: [...this.#decisions.values()] };
    return { ...lists, lostLines: this.#lostLines };
  }

  /** What cannot be written, on a full disk, is counted: it must not end the program, nor pass unnoticed. */
  #write(record: object): void {
    const trace = this.#trace;
    if (trace === undefined) return;
    const atMs = Math.round((performance.now() - this.#start) * 1000) / 1000;
    const line = `${this.#isTorn ? "\n" : ""}${JSON.stringify({ atMs, ...record })}\n`;
    try {
      const written = writeSync(trace.fd, line);
      this.#isTorn = written < Buffer.byteLength(line);
      if (this.#isTorn) this.#lose(trace, new Error(`only ${howMany(written, "byte")} of a line could be written`));
    } catch (error) {
      this.#lose(trace, error as Error);
    }
  }

  #lose(trace: Trace, error: Error): void {
    this.#lostLines += 1;
    if (this.#lostLines === 1) trace.onLoss(error);
  }
}
