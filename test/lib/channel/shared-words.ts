/**
 * The control words of both rings as one side of a channel sees them: what it stores and loads there is asked of a history
 * of answers, and once that is used up the side is left by an exception that says what it was about to do.
 */
import {
  DATA_OFFSET,
  DATA_WAKE,
  FIRST,
  HEAD,
  LAST,
  type RingMemory,
  ringMemory,
  SPACE_WAKE,
  STATE,
  STATE_FINISHED,
  TAIL,
} from "../../../lib/ring/layout.ts";

export type ControlWord = "TAIL" | "HEAD" | "DATA_WAKE" | "SPACE_WAKE" | "STATE";
const PLACES: Record<ControlWord, number> = { TAIL, HEAD, DATA_WAKE, SPACE_WAKE, STATE };
const CONTROL: readonly ControlWord[] = ["TAIL", "HEAD", "DATA_WAKE", "SPACE_WAKE", "STATE"];
const INDEX: readonly number[] = CONTROL.map((name) => PLACES[name]);

/** What a side does next that the other can see or change. `word` counts through both rings' control words. */
export type Operation =
  | { readonly op: "store"; readonly word: number; readonly value: number; readonly atomic: boolean }
  | { readonly op: "load"; readonly word: number }
  /** Nothing is armed: an event loop may take a byte off the doorbell here, and nobody hears of it. */
  | { readonly op: "ring" | "sleep" | "turn" }
  | { readonly op: "end"; readonly result: number };

export const wordName = (word: number): string =>
  `${Math.trunc(word / CONTROL.length)}.${CONTROL[word % CONTROL.length]}`;
export const controlOf = (word: number): ControlWord => CONTROL[word % CONTROL.length] as ControlWord;
export const WORDS: number = 2 * CONTROL.length;

export type SharedOptions = {
  readonly side: 0 | 1;
  readonly capacity: number;
  /** Payload of every message of the other side; with its header it divides the capacity. */
  readonly payload: number;
  /** Takes the second look away: what was read before is read again, as if the load had come before the store. */
  readonly forgets?: "data" | "space" | "end" | undefined;
};

export class Suspended extends Error {
  readonly operation: Operation;

  constructor(operation: Operation) {
    super("Suspended");
    this.operation = operation;
  }
}

/** Both rings' words, as one side sees them. */
export class SharedWords {
  readonly own: RingMemory;
  readonly peer: RingMemory;
  readonly #options: SharedOptions;
  readonly #history: readonly number[];
  readonly #ownWords: Int32Array;
  readonly #loaded: number[] = INDEX.map(() => 0);
  #used = 0;
  #mark = "";
  #since = 0;

  constructor(options: SharedOptions, history: readonly number[]) {
    this.#options = options;
    this.#history = history;
    const { capacity, payload } = options;
    const bytes = DATA_OFFSET + capacity;
    const own = ringMemory(new ArrayBuffer(bytes));
    this.#ownWords = own.words;
    const peer = ringMemory(new ArrayBuffer(bytes));
    for (let at = DATA_OFFSET; at < bytes; at += (payload + 15) & ~7) {
      peer.words[at >> 2] = payload;
      peer.words[(at >> 2) + 1] = (FIRST | LAST) << 16;
    }
    this.own = { bytes: own.bytes, words: this.#watch(own.words, (index) => own.words[index] ?? 0) };
    this.peer = { bytes: peer.bytes, words: this.#watch(peer.words, (_, control) => this.#load(control)) };
  }

  mark(position: unknown): void {
    const stored = INDEX.map((index) => this.#ownWords[index]);
    this.#mark = JSON.stringify([position, stored, this.#options.forgets === undefined ? [] : this.#loaded]);
    this.#since = this.#used;
  }

  digest(): string {
    return `${this.#mark} ${this.#history.slice(this.#since).join()}`;
  }

  /** @returns the answer  @throws Suspended when there is none yet */
  ask(operation: Operation): number {
    const answer = this.#history[this.#used];
    if (answer === undefined) throw new Suspended(operation);
    this.#used++;
    return answer;
  }

  /** Those that the next operations will get. */
  answersAhead(most: number): readonly number[] {
    return this.#history.slice(this.#used, this.#used + most);
  }

  /** A load from the other side's ring that was done elsewhere, with the next answer. */
  loadAgain(index: number): void {
    const control = INDEX.indexOf(index);
    if (control < 0) throw new RangeError(`Word ${index} of the other side's ring is none of the control words`);
    if (this.#options.forgets !== undefined) throw new Error("What is done elsewhere forgets nothing");
    this.#load(control);
  }

  store(words: Int32Array, index: number, value: number, atomic: boolean): number {
    if (words !== this.own.words) throw new Error("A side wrote to the ring of the other");
    const control = INDEX.indexOf(index);
    if (control >= 0) this.ask({ op: "store", word: this.#word(this.#options.side, control), value, atomic });
    this.#ownWords[index] = value;
    return value;
  }

  #load(control: number): number {
    const stale = this.#forgotten(CONTROL[control] as ControlWord);
    if (!stale) this.#loaded[control] = this.ask({ op: "load", word: this.#word(1 - this.#options.side, control) });
    return this.#loaded[control] ?? 0;
  }

  #forgotten(word: ControlWord): boolean {
    const armed = (name: "DATA_WAKE" | "SPACE_WAKE"): boolean => this.#ownWords[PLACES[name]] !== 0;
    switch (this.#options.forgets) {
      case "data":
        return (word === "TAIL" || word === "STATE") && armed("DATA_WAKE");
      case "space":
        return word === "HEAD" && armed("SPACE_WAKE");
      case "end":
        return word === "TAIL" && this.#loaded[CONTROL.indexOf("STATE")] === STATE_FINISHED;
      default:
        return false;
    }
  }

  #word(side: number, control: number): number {
    return side * CONTROL.length + control;
  }

  #watch(words: Int32Array, load: (index: number, control: number) => number): Int32Array {
    const proxy: Int32Array = new Proxy(words, {
      get: (target, name) => {
        const index = Number(String(name));
        const control = INDEX.indexOf(index);
        if (control >= 0) return load(index, control);
        return Reflect.get(target, name, target);
      },
      set: (_, name, value: number) => {
        this.store(proxy, Number(String(name)), value, false);
        return true;
      },
    });
    return proxy;
  }
}
