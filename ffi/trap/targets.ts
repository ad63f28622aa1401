/** Where machine code sends connections to: struct target of machine/trap-state.h. */
import type { NativeMemory } from "../memory.ts";
import { unixAddress } from "../sys/address.ts";

const [TARGETS, TARGET_BYTES, MAX_TARGETS] = [464, 264, 8];
const [USED, PATH_LENGTH, PATH, HEAD_LENGTH, TAIL_LENGTH, HEAD, TAIL, NAME_BYTES] = [8, 12, 16, 128, 132, 136, 200, 64];

/** Where connections to an IPv4 endpoint go. */
export type TrapTarget = {
  readonly host: Uint8Array;
  readonly port: number;
  readonly path: string;
  /** What the abstract name of a client's end is, "@" first, before and after its port. */
  readonly head: string;
  readonly tail: string;
};

export class TrapTargets {
  static readonly MAX: number = MAX_TARGETS;
  readonly #memory: NativeMemory;

  constructor(memory: NativeMemory) {
    this.#memory = memory;
  }

  /** @returns false where it does not fit; undefined takes it out */
  set(index: number, target: TrapTarget | undefined): boolean {
    const at = TARGETS + index * TARGET_BYTES;
    const { data, bytes } = this.#memory;
    data.setUint32(at + USED, 0, true);
    if (target === undefined) return true;
    const path = unixAddress(target.path);
    const [head, tail] = [unixAddress(target.head).subarray(2), new TextEncoder().encode(target.tail)];
    if (target.host.length !== 4 || head.length > NAME_BYTES || tail.length > NAME_BYTES) return false;
    data.setUint16(at, 2, true); // AF_INET
    data.setUint16(at + 2, target.port);
    bytes.set(target.host, at + 4);
    bytes.set(path, at + PATH);
    bytes.set(head, at + HEAD);
    bytes.set(tail, at + TAIL);
    data.setUint32(at + PATH_LENGTH, path.length, true);
    data.setUint32(at + HEAD_LENGTH, head.length, true);
    data.setUint32(at + TAIL_LENGTH, tail.length, true);
    data.setUint32(at + USED, 1, true);
    return true;
  }
}
