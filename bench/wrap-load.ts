/** Loads on servers take turns of a fraction of a second, and each turn is compared with its neighbours. */
import type { ChildProcessByStdio } from "node:child_process";
import { createInterface, type Interface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { BUILD } from "./baseline.ts";
import { pinned } from "./processors.ts";
import type { Bench, Under } from "./wrap-stage.ts";

const TURNS = 96;
const TURN_MS = 25;
/** A supervisor that has just begun, and its runtime, are busy with themselves for a while. */
const WARM_UP_TURNS = 8;
const CONNECTIONS = 16;

export type Kind = { readonly protocol: "http" | "redis"; readonly way: "keep" | "anew" };

/** Which server a load asks, what it runs under itself, and the processor that it keeps to, if any. */
export type Course = { readonly address: number | string; readonly under: Under; readonly cpu?: number };

/** A program that asks a server while it is its turn. */
export class Load implements Disposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: Interface;
  /** Requests a second of each turn. */
  readonly rates: number[] = [];

  constructor(bench: Bench, { address, under, cpu }: Course, { protocol, way }: Kind) {
    const load = [`${BUILD}load`, String(address), protocol, way, String(CONNECTIONS)];
    this.#child = bench.converse(cpu === undefined ? load : pinned(cpu, load), under);
    this.#lines = createInterface({ input: this.#child.stdout });
  }

  /** Of the load, or of its supervisor. */
  get pid(): number | undefined {
    return this.#child.pid;
  }

  async turn(ms: number = TURN_MS): Promise<void> {
    const answer = new Promise<string>((resolve, reject) => {
      this.#lines.once("line", resolve).once("close", () => reject(new Error("Cannot measure: the load has ended")));
    });
    this.#child.stdin.write(`${ms}\n`);
    const line = await answer;
    this.#lines.removeAllListeners();
    this.rates.push(1e9 / Number(line));
  }

  [Symbol.dispose](): void {
    this.#lines.removeAllListeners();
    this.#lines.close();
    this.#child.stdin.end();
  }
}

export type Rates = readonly number[];

export async function compare<Name extends string>(
  bench: Bench,
  what: Kind,
  courses: Readonly<Record<Name, Course>>,
): Promise<Record<Name, Rates>> {
  using stack = new DisposableStack();
  const names = Object.keys(courses) as Name[];
  const loads = names.map((name) => stack.use(new Load(bench, courses[name], what)));
  const order = [...loads];
  for (let turn = 0; turn < WARM_UP_TURNS + TURNS; turn++) {
    for (const each of order) await each.turn();
    order.push(...order.splice(0, 1)); // who comes first, and after whom, changes
  }
  const rates = names.map((name, index) => [name, loads[index]?.rates.slice(WARM_UP_TURNS)]);
  return Object.fromEntries(rates) as Record<Name, Rates>;
}
