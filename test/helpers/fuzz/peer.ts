/** One connection of a fuzzer, what it believes of its objects, and what the broker has told it. */
import {
  type BorrowedFd,
  connect,
  constants,
  type OwnedFd,
  recvmsg,
  SyscallError,
  sendmsg,
  socket,
  unixAddress,
} from "../../../ffi/mod.ts";
import { INTERFACES, type InterfaceName } from "../../../lib/protocol/shmlink-v1.gen.ts";

type Argument = { readonly kind: string; readonly interface?: string | undefined };
type Known = readonly [id: number, name: InterfaceName, version: number];

/** @property events  those whose sender is surely what we take it for */
export type Heard = { readonly events: readonly string[]; readonly fds: readonly OwnedFd[]; readonly ended: boolean };

export class Peer {
  readonly fd: OwnedFd;
  /** An object that is worth more is there several times. */
  objects: Known[] = [[1, "wl_display", 1]];
  nextId = 2;
  /** It has sent a part of a message, and does not want to send the rest. */
  isHalfWay = false;
  /** It has sent what the broker may read otherwise than it was meant: what is believed of objects made since may be wrong. */
  isDoubtful = false;
  readonly #types: Map<number, InterfaceName> = new Map([[1, "wl_display"]]);
  #input: Uint8Array = new Uint8Array(0);

  /** @param fd  a connection; taken */
  constructor(fd: OwnedFd) {
    this.fd = fd;
  }

  /** @returns undefined where nobody listens, or too many wait */
  static connect(path: string): Peer | undefined {
    const fd = socket(constants.AF_UNIX, constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
    try {
      connect(fd, unixAddress(path), path);
      return new Peer(fd);
    } catch (error) {
      fd.close();
      if (error instanceof SyscallError) return undefined;
      throw error;
    }
  }

  know(id: number, name: InterfaceName, { weight = 1, version = 1 }: { weight?: number; version?: number } = {}): void {
    this.#types.set(id, name);
    for (let time = 0; time < weight; time++) this.objects.push([id, name, version]);
  }

  /** It has asked for its end. */
  forget(id: number): void {
    this.objects = this.objects.filter(([known]) => known !== id);
  }

  /** @returns whether the connection is still good */
  push(bytes: Uint8Array, fds: readonly BorrowedFd[]): boolean {
    try {
      sendmsg(this.fd, bytes, fds);
      return true;
    } catch (error) {
      if (error instanceof SyscallError) return false; // ended, or too many descriptors in flight
      throw error;
    }
  }

  /** What has come since the last time; the descriptors are the caller's. */
  receive(): Heard {
    const events: string[] = [];
    const fds: OwnedFd[] = [];
    try {
      for (let received = recvmsg(this.fd); received !== null; received = recvmsg(this.fd)) {
        fds.push(...received.fds);
        if (received.bytes.length === 0) return { events, fds, ended: true };
        events.push(...this.#parse(received.bytes));
      }
      return { events, fds, ended: false };
    } catch (error) {
      if (error instanceof SyscallError) return { events, fds, ended: true };
      throw error;
    }
  }

  #parse(bytes: Uint8Array): string[] {
    const all = new Uint8Array(this.#input.length + bytes.length);
    all.set(this.#input);
    all.set(bytes, this.#input.length);
    const view = new DataView(all.buffer);
    const events: string[] = [];
    let at = 0;
    while (all.length - at >= 8) {
      const size = view.getUint32(at + 4, true) >>> 16;
      if (size < 8 || size % 4 !== 0) throw new Error(`The broker sent a message of ${size} bytes`);
      if (all.length - at < size) break;
      const heard = this.#hear(new DataView(all.buffer, at, size));
      if (heard !== undefined) events.push(heard);
      at += size;
    }
    this.#input = all.slice(at);
    return events;
  }

  /** Learns of objects that the broker has made.
   *  @returns "interface.event"; undefined where we may be wrong about what the object is
   *  @throws where we are not, and the message is none of its events */
  #hear(message: DataView): string | undefined {
    const sender = message.getUint32(0, true);
    const name = this.#types.get(sender);
    const opcode = message.getUint32(4, true) & 0xffff;
    const event = name && INTERFACES[name].events[opcode];
    const isSure = name === "wl_display" || (name !== undefined && !this.isDoubtful);
    const isOne = name !== undefined && event !== undefined && this.#learn(message, event.args);
    if (isSure && !isOne) throw new Error(`The broker sent ${message.byteLength} bytes as ${name}'s event ${opcode}`);
    if (!isOne) return undefined;
    if (event.name === "map") this.know(sender, name, { weight: 4 }); // it is waited for
    return isSure ? `${name}.${event.name}` : undefined;
  }

  /** @returns whether the message has just these arguments */
  #learn(message: DataView, args: readonly Argument[]): boolean {
    let offset = 8;
    for (const arg of args) {
      if (arg.kind === "fd") continue;
      if (offset + 4 > message.byteLength) return false;
      const value = message.getUint32(offset, true);
      offset += 4;
      if (arg.kind === "string" || arg.kind === "array") offset += Math.ceil(value / 4) * 4;
      if (arg.kind === "new_id" && arg.interface !== undefined && arg.interface in INTERFACES)
        this.know(value, arg.interface as InterfaceName, { weight: 4 });
    }
    return offset === message.byteLength;
  }
}
