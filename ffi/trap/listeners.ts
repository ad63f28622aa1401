/** The listeners whose connections machine code accepts: struct listener of machine/trap-state.h. */
import { calls } from "../calls.ts";
import { MAP_SHARED, PROT_READ, PROT_WRITE } from "../constants.ts";
import type { BorrowedFd } from "../fd.ts";
import type { NativeMemory } from "../memory.ts";
import { unixAddress } from "../sys/address.ts";
import { MAX_VALUE_BYTES, type OptionCheck, writeChecks } from "./options.ts";

const [LISTENERS, LISTENER_BYTES, MAX_LISTENERS, MAX_OPTIONS] = [19_600, 296, 8, 4];
const [USED, OPTION_COUNT, ADDRESS_LENGTH, PATH_LENGTH, ADDRESS, PATH, OPTIONS] = [8, 12, 16, 20, 24, 56, 168];
const [COUNTERS, PAGE_BYTES] = [22_416, 4096];

/** A listener, where it is certain what each of its connections gets. */
export type TrapListener = {
  /** Its SO_COOKIE. */
  readonly cookie: bigint;
  /** What its socket says of itself. */
  readonly address: string;
  /** The sockaddr that a client on 127.0.0.1 is shown as; the port is put in. */
  readonly client: Uint8Array;
  /** A file whose first four 64-bit words count, of which we count the first, third and fourth: connections, calls and
   *  the nanoseconds that those took. */
  readonly counters: BorrowedFd;
  /** What connections inherit; at most 4, of at most 16 bytes. */
  readonly options: readonly OptionCheck[];
};

export class TrapListeners {
  static readonly MAX: number = MAX_LISTENERS;
  readonly #memory: NativeMemory;

  constructor(memory: NativeMemory) {
    this.#memory = memory;
  }

  /** @returns false where it does not fit; undefined takes it out */
  set(index: number, listener: TrapListener | undefined): boolean {
    const at = LISTENERS + index * LISTENER_BYTES;
    const { data, bytes } = this.#memory;
    data.setUint32(at + USED, 0, true);
    this.#mapCounters(index, listener?.counters);
    if (listener === undefined) return true;
    const { cookie, address, client, options } = listener;
    const isLong = options.some(({ value }) => value.length > MAX_VALUE_BYTES);
    if (options.length > MAX_OPTIONS || isLong || client.length > 32) return false;
    const path = unixAddress(address);
    data.setBigUint64(at, cookie, true);
    data.setUint32(at + OPTION_COUNT, options.length, true);
    data.setUint32(at + ADDRESS_LENGTH, client.length, true);
    data.setUint32(at + PATH_LENGTH, path.length, true);
    bytes.set(client, at + ADDRESS);
    bytes.set(path, at + PATH);
    writeChecks(this.#memory, at + OPTIONS, options);
    data.setUint32(at + USED, 1, true);
    return true;
  }

  /** A mapping of our own, so that whoever made the file may close it. */
  #mapCounters(index: number, file: BorrowedFd | undefined): void {
    const { data } = this.#memory;
    const at = COUNTERS + index * 8;
    const known = Number(data.getBigUint64(at, true));
    if (known !== 0) calls.munmap(known, PAGE_BYTES);
    const mapped =
      file === undefined ? 0 : calls.mmap(0, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file.number, 0);
    data.setBigUint64(at, BigInt(Math.max(mapped, 0)), true);
  }
}
