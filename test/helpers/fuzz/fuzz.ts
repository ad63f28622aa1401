/**
 * A sequence of requests of a few peers that share their descriptors: well-formed, half-formed and ill-formed, in any order,
 * as one seed gives it. What the broker answers is used: objects that it makes, rings and connections that it hands out.
 */
import type { BorrowedFd } from "../../../ffi/mod.ts";
import { INTERFACES, type InterfaceName } from "../../../lib/protocol/shmlink-v1.gen.ts";
import { Peer } from "./peer.ts";
import type { Pool } from "./pool.ts";
import { NAMES, NUMBERS, type Random, SENSIBLE } from "./random.ts";

const PER_SEQUENCE = 400;
const MAX_PEERS = 5;

export type FuzzOptions = {
  readonly random: Random;
  readonly path: string;
  readonly pool: Pool;
  /** Counts what the broker says, by "interface.event". */
  readonly heard: Map<string, number>;
};

type Argument = { readonly name: string; readonly kind: string; readonly interface?: string | undefined };

export type Turns = { turn(timeoutMs: number): void };

export class Fuzz {
  readonly #options: FuzzOptions;
  readonly #random: Random;
  readonly #peers: Peer[] = [];
  /** How many messages are well-formed for one that is not, more or less: who is wrong at once never gets far. */
  readonly #tameness: number;
  sent = 0;

  constructor(options: FuzzOptions) {
    this.#options = options;
    this.#random = options.random;
    this.#tameness = options.random.pick([1, 5, 50]);
  }

  #slips(outOf: number): boolean {
    return this.#random.chance(outOf * this.#tameness);
  }

  /** @param lingerMs  before everybody goes, for the broker to give up what is not finished */
  run(broker: Turns, lingerMs: number): void {
    for (let index = 0; index < 3; index++) this.#peers.push(this.#join());
    while (this.sent < PER_SEQUENCE) {
      const index = this.#random.below(this.#peers.length);
      const peer = this.#peers[index] as Peer; // below its length
      if (peer.isHalfWay && !this.#random.chance(20)) continue; // says nothing more, mostly
      const alive = this.#send(peer) && (this.#random.chance(4) || this.#receive(peer));
      if (!alive || this.#random.chance(150)) {
        peer.fd.close();
        this.#peers[index] = this.#join();
      }
      if (this.#random.chance(3)) broker.turn(0);
    }
    for (const untilMs = performance.now() + lingerMs; performance.now() < untilMs; ) broker.turn(1);
    for (const { fd } of this.#peers) fd.close();
  }

  /** Some come through a context, where there is one. */
  #join(): Peer {
    const { path, pool } = this.#options;
    const inside = this.#random.chance(6) ? Peer.connect(pool.contextPath) : undefined;
    const peer = inside ?? Peer.connect(path);
    if (peer === undefined) throw new Error("The broker does not listen any more");
    if (!this.#random.chance(6)) this.#greet(peer);
    return peer;
  }

  /** Most say hello at once, so that more than the greeting is tried; some have a manager of each version. */
  #greet(peer: Peer): void {
    const { random, pool } = { random: this.#random, pool: this.#options.pool };
    const words = (...values: number[]): Uint8Array => new Uint8Array(new Uint32Array(values).buffer);
    const manager = text("shmlink_manager_v1");
    const bind = (version: number, id: number): number[] => [
      2,
      ((8 + 4 + manager.length * 4 + 8) << 16) | 0,
      1,
      ...manager,
      version,
      id,
    ];
    const hello = [3, ((8 + text("fuzz").length * 4) << 16) | 0, ...text("fuzz")];
    const version = random.chance(3) ? 1 : 2;
    peer.push(words(1, (12 << 16) | 1, 2, ...bind(version, 3)), []);
    peer.push(words(...hello), [pool.nothing]);
    peer.know(2, "wl_registry");
    peer.know(3, "shmlink_manager_v1", { weight: 3, version });
    peer.nextId = 4;
    if (!random.chance(5)) return;
    peer.push(words(...bind(3 - version, 4)), []);
    peer.know(4, "shmlink_manager_v1", { weight: 2, version: 3 - version });
    peer.nextId = 5;
  }

  #send(peer: Peer): boolean {
    const random = this.#random;
    const isStranger = this.#slips(40);
    if (isStranger) peer.isDoubtful = true;
    const [id, name, version] = isStranger
      ? ([random.pick(NUMBERS), "shmlink_manager_v1", 2] as const)
      : random.pick(peer.objects);
    const { requests } = INTERFACES[name];
    const isAny = requests.length === 0 || this.#slips(50);
    const opcode = isAny ? random.below(18) : random.below(requests.length);
    const request = requests[opcode];
    const isInOrder = request?.name !== "hello" && (request?.since ?? 1) <= version; // once is enough
    if (!isInOrder && !this.#slips(10)) return true;
    if (request?.destructor === true && !random.chance(4)) return true; // or nothing lives to see a second request
    if (request?.destructor === true) peer.forget(id);
    const words: number[] = [];
    const fds: BorrowedFd[] = [];
    for (const arg of request?.args ?? []) this.#argument(peer, arg, words, fds);
    if (this.#slips(60)) words.push(random.below(9));
    if (this.#slips(60)) words.pop();
    if (this.#slips(60)) fds.pop();
    if (this.#slips(60)) fds.push(...Array.from({ length: random.below(28) }, () => this.#anyFd()));
    const size = 8 + words.length * 4;
    const wrongBy = this.#slips(80) ? random.pick([-8, -4, -1, 4, 4096]) : 0;
    const bytes = new Uint8Array(new Uint32Array([id, (((size + wrongBy) & 0xffff) << 16) | opcode, ...words]).buffer);
    const isTouched = this.#slips(80);
    if (isTouched) bytes[random.below(bytes.length)] = random.below(256);
    if (wrongBy !== 0 || isTouched) peer.isDoubtful = true;
    this.sent += 1;
    return this.#push(peer, bytes, fds.slice(0, 28));
  }

  #argument(peer: Peer, arg: Argument, words: number[], fds: BorrowedFd[]): void {
    const random = this.#random;
    const wellKnown = this.#slips(8) ? undefined : SENSIBLE[arg.name];
    if (arg.kind === "string") words.push(...text(String(random.pick(wellKnown ?? NAMES))));
    else if (arg.kind === "fd") fds.push(this.#anyFd(arg.name));
    else if (arg.kind === "new_id") words.push(this.#newId(peer, arg.interface));
    else if (arg.kind === "untyped_new_id") this.#bind(peer, words);
    else if (arg.kind === "object") words.push(random.pick(peer.objects)[0]);
    else if (arg.name === "name" && !this.#slips(8))
      words.push(1); // the only global
    else if (wellKnown !== undefined) words.push(Number(random.pick(wellKnown)));
    else words.push(random.chance(2) ? random.below(4) : random.pick(NUMBERS));
  }

  #bind(peer: Peer, words: number[]): void {
    const version = this.#slips(10) ? this.#random.below(5) : 1 + this.#random.below(2);
    const id = this.#newId(peer, undefined);
    peer.know(id, "shmlink_manager_v1", { version });
    words.push(...text("shmlink_manager_v1"), version, id);
  }

  #newId(peer: Peer, name: string | undefined): number {
    if (this.#slips(60)) {
      peer.isDoubtful = true;
      return this.#random.pick([0, 1, 2, 3, 0xff000000, 0xffffffff]);
    }
    peer.nextId += 1;
    if (name !== undefined && name in INTERFACES)
      peer.know(peer.nextId - 1, name as InterfaceName, { weight: name === "shmlink_grant_v1" ? 3 : 1 });
    return peer.nextId - 1;
  }

  #anyFd(use = ""): BorrowedFd {
    return this.#random.chance(8) && this.#peers.length > 0
      ? this.#random.pick(this.#peers).fd
      : this.#options.pool.pick(use);
  }

  /** In one piece or in two, so that messages and descriptors arrive apart. */
  #push(peer: Peer, bytes: Uint8Array, fds: readonly BorrowedFd[]): boolean {
    const cut = this.#random.chance(10) ? 1 + this.#random.below(bytes.length - 1) : bytes.length;
    peer.isHalfWay = cut < bytes.length && this.#random.chance(100);
    if (peer.isHalfWay) peer.isDoubtful = true;
    if (peer.isHalfWay) return peer.push(bytes.subarray(0, cut), fds);
    return peer.push(bytes.subarray(0, cut), fds) && (cut === bytes.length || peer.push(bytes.subarray(cut), []));
  }

  #receive(peer: Peer): boolean {
    const said = peer.receive();
    const { heard, pool } = this.#options;
    for (const event of said.events) heard.set(event, (heard.get(event) ?? 0) + 1);
    const [first, ...rest] = said.fds;
    if (first === undefined) return !said.ended;
    const isMinted = said.events.includes("shmlink_grant_v1.connection") && said.fds.length === 1;
    if (isMinted && this.#peers.length < MAX_PEERS) {
      const holder = new Peer(first);
      this.#greet(holder);
      this.#peers.push(holder);
    } else pool.found(first);
    for (const fd of rest) pool.found(fd);
    return !said.ended;
  }
}

function text(value: string): number[] {
  const bytes = new TextEncoder().encode(`${value}\0`);
  const words = new Uint32Array(Math.ceil(bytes.length / 4));
  new Uint8Array(words.buffer).set(bytes);
  return [bytes.length, ...words];
}
