/**
 * The machine code of a ring, compiled so that a test stands between it and the words that both sides share
 * (test/fixtures/c/explored-path.c). It is given the answers that are known, and what it did with them is done again with the
 * side's own words: the side is left at the first load or store for which there is no answer yet.
 */
// biome-ignore lint/style/noRestrictedImports: code of a test, that no backend of the library is to know of
import { dlopen, type Pointer, ptr, toArrayBuffer } from "bun:ffi";
import type { FastPath } from "../../../lib/ring/fast-path.ts";
import type { SharedWords } from "./shared-words.ts";

/** Of struct exchange, in words. */
const [GIVEN, USED, LOGGED, ANSWERS] = [0, 1, 2, 4];
const MOST = 256;
const LOG = ANSWERS + MOST;
const LOADED = 0;
/** Of struct path. */
const PATHS = 64;
const PATH_BYTES = 128;
const POINTER_BYTES = 32;
const [OWN, PEER, BUFFER, PACKED] = [0, 1, 2, 3];

const SYMBOLS = {
  ring_send: { args: ["i32", "i32", "i32"], returns: "i32" },
  ring_receive: { args: ["i32", "i32", "i32"], returns: "i32" },
  ring_put_packed: { args: ["i32", "i32", "i32", "i32", "i32"], returns: "i32" },
  ring_take_packed: { args: ["i32", "i32", "i32"], returns: "i32" },
  ring_lend: { args: ["i32", "i32", "ptr"], returns: "i32" },
  explored_exchange: { args: [], returns: "ptr" },
  explored_paths: { args: [], returns: "ptr" },
} as const;

export class ExploredMachine {
  readonly #native: ReturnType<typeof dlopen<typeof SYMBOLS>>["symbols"];
  readonly #exchange: Int32Array;
  readonly #states: readonly Int32Array[];
  #opened = 0;
  /** Calls in which something shared was loaded or stored. */
  calls = 0;

  /** @param library  explored-path.c as a shared object */
  constructor(library: string) {
    this.#native = dlopen(library, SYMBOLS).symbols;
    const exchange = this.#native.explored_exchange() as Pointer;
    this.#exchange = new Int32Array(toArrayBuffer(exchange, 0, (LOG + 3 * MOST) * 4));
    const paths = toArrayBuffer(this.#native.explored_paths() as Pointer, 0, PATHS * PATH_BYTES);
    const words = (PATH_BYTES - POINTER_BYTES) / 4;
    this.#states = Array.from(
      { length: PATHS },
      (_, slot) => new Int32Array(paths, slot * PATH_BYTES + POINTER_BYTES, words),
    );
  }

  /** For one end, as long as not many more are opened after it. */
  open(shared: SharedWords): FastPath {
    const slot = 1 + (this.#opened++ % (PATHS - 1)); // the first is nobody's
    const state = (this.#states[slot] as Int32Array).fill(0);
    const native = this.#native;
    native.ring_lend(slot, OWN, ptr(shared.own.bytes));
    native.ring_lend(slot, PEER, ptr(shared.peer.bytes));
    return {
      state,
      lend: (which, bytes) => {
        if (bytes.length > 0) native.ring_lend(slot, which === "buffer" ? BUFFER : PACKED, ptr(bytes));
        return true;
      },
      send: (length, type) => this.#ask(shared, () => native.ring_send(slot, length, type)),
      receive: (room, looks) => this.#ask(shared, () => native.ring_receive(slot, room, looks)),
      putPacked: (bytes, from, to, type) =>
        this.#ask(shared, () => native.ring_put_packed(slot, bytes, from, to, type)),
      takePacked: (bytes, most) => this.#ask(shared, () => native.ring_take_packed(slot, bytes, most)),
      close: () => undefined,
    };
  }

  #ask(shared: SharedWords, call: () => number): number {
    const exchange = this.#exchange;
    const answers = shared.answersAhead(MOST);
    exchange.set(answers, ANSWERS);
    exchange[GIVEN] = answers.length;
    exchange[USED] = exchange[LOGGED] = 0;
    const result = call();
    const logged = exchange[LOGGED] as number;
    if (logged === MOST) throw new RangeError(`Cannot explore a call that touches ${MOST} words or more`);
    if (logged > 0) this.calls++;
    const log = exchange.slice(LOG, LOG + 3 * logged);
    for (let at = 0; at < log.length; at += 3) {
      const [what, index, value] = log.subarray(at, at + 3) as unknown as [number, number, number];
      if (what === LOADED) shared.loadAgain(index);
      else shared.store(shared.own.words, index, value, true);
    }
    return result;
  }
}
