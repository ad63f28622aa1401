/**
 * One side of a channel as an automaton, learned from the code itself: a real BlockingChannel whose rings' control words
 * and doorbell are ours. The program runs from its start again and again, each time with one more answer, until it comes
 * to the next thing that the other side can see or change; there it is left by an exception.
 *
 * Two histories lead to the same state when the program stands at the same mark with the same fields and has had the same
 * answers since. What can be seen of private fields is in what the side has stored itself, which is part of it.
 */
import type { OwnedFd } from "../../../ffi/mod.ts";
import { BlockingChannel } from "../../../lib/channel/blocking.ts";
import { RingConsumer } from "../../../lib/ring/consumer.ts";
import { ringFileBytes } from "../../../lib/ring/layout.ts";
import { RingProducer } from "../../../lib/ring/producer.ts";
import { OUT_BYTES, STATE_WORDS } from "../../../lib/ring/state.ts";
import type { ExploredMachine } from "./explored-machine.ts";
import { type Operation, type SharedOptions, SharedWords, Suspended } from "./shared-words.ts";

export type Scene = {
  readonly channel: BlockingChannel;
  /** Where the program is, complete: nothing else that it remembers may matter from here on. */
  mark(...position: readonly number[]): void;
  /** For a loop of its own over tryReceive() and armReceive(), as an event loop has it. */
  turn(): void;
  sleep(): void;
};

export type SideOptions = SharedOptions & {
  /** For what goes through machine code; without it TypeScript does all. */
  readonly machine?: ExploredMachine | undefined;
  /** @returns what is compared at the end */
  readonly program: (scene: Scene) => number;
};

type State = { readonly history: readonly number[]; readonly operation: Operation; readonly next: Map<number, number> };

export class RealSide {
  readonly #options: SideOptions;
  readonly #states: State[] = [];
  readonly #known = new Map<string, number>();

  constructor(options: SideOptions) {
    this.#options = options;
    this.#learn([]);
  }

  get states(): number {
    return this.#states.length;
  }

  /** What the side does next in state `id`; 0 is the first. */
  operation(id: number): Operation {
    return this.#state(id).operation;
  }

  /** The state after that. @param answer  what was loaded, else 0 */
  after(id: number, answer: number): number {
    const { history, next } = this.#state(id);
    let target = next.get(answer);
    if (target === undefined) {
      target = this.#learn([...history, answer]);
      next.set(answer, target);
    }
    return target;
  }

  #state(id: number): State {
    const state = this.#states[id];
    if (state === undefined) throw new RangeError(`No state "${id}"`);
    return state;
  }

  #learn(history: readonly number[]): number {
    const { operation, digest } = replay(this.#options, history);
    const known = this.#known.get(digest);
    if (known !== undefined) {
      const before = JSON.stringify(this.operation(known));
      const now = JSON.stringify(operation);
      if (before !== now) throw new Error(`States were taken for the same: "${digest}" does ${before} and ${now}`);
      return known;
    }
    this.#states.push({ history, operation, next: new Map() });
    this.#known.set(digest, this.#states.length - 1);
    return this.#states.length - 1;
  }
}

/** Runs the program with these answers. @returns where it stands then */
function replay(options: SideOptions, history: readonly number[]): { operation: Operation; digest: string } {
  const shared = new SharedWords(options, history);
  const { store, load } = Atomics;
  const { now } = performance;
  Object.assign(Atomics, {
    store: (words: Int32Array, index: number, value: number) => shared.store(words, index, value, true),
    load: (words: Int32Array, index: number) => words[index],
  });
  performance.now = () => 0;
  try {
    const result = options.program(scene(options, shared));
    return { operation: { op: "end", result }, digest: `end ${result}` };
  } catch (error) {
    if (!(error instanceof Suspended)) throw error;
    return { operation: error.operation, digest: shared.digest() };
  } finally {
    Object.assign(Atomics, { store, load });
    performance.now = now;
  }
}

function scene({ side, capacity, machine }: SideOptions, shared: SharedWords): Scene {
  const mapping = { buffer: new ArrayBuffer(ringFileBytes(4096)), close: () => undefined };
  const parts = { channelId: 1, side, ownCapacity: 4096, peerCapacity: 4096, doorbell: {} as OwnedFd };
  const channel = new BlockingChannel({ ...parts, own: mapping as never, peer: mapping as never }, { spinUs: 0 });
  const doorbell = {
    hungUp: false,
    ring: () => void shared.ask({ op: "ring" }),
    wait: () => shared.ask({ op: "sleep" }) === 0,
    checkHangUp: () => false,
  };
  const openFastPath = machine && (() => machine.open(shared));
  const ends = { own: shared.own, peer: shared.peer, capacity, doorbell, openFastPath };
  const [producer, consumer] = [new RingProducer(ends), new RingConsumer(ends)];
  Object.assign(channel, { doorbell, producer, consumer });
  return {
    channel,
    mark: (...position) => shared.mark([position, plain(producer), plain(consumer)]),
    turn: () => void shared.ask({ op: "turn" }),
    sleep: () => void shared.ask({ op: "sleep" }),
  };
}

/** The numbers and truths among an object's fields, and the words that say where it stands, without the totals after them. */
function plain(object: object): unknown[] {
  return Object.values(object).flatMap((value) => {
    if (typeof value === "number" || typeof value === "boolean") return [value];
    return value instanceof Int32Array && value.length === STATE_WORDS ? [...value.subarray(0, OUT_BYTES)] : [];
  });
}
