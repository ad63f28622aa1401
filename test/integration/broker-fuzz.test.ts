/**
 * Peers that send well-formed, half-formed and ill-formed requests in any order, with any descriptors, to a broker in this
 * process. Whatever they do it answers or disconnects them: nothing is thrown out of its loop, and when they have gone,
 * no record, no charge and no descriptor is left. A failure prints its seed, which belongs into the corpus then.
 *
 * SHMLINK_FUZZ_MESSAGES says how many messages; SHMLINK_FUZZ_SEED makes it one sequence, for finding what a seed does.
 */
import { expect, test } from "bun:test";
import { readFileSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import {
  type BorrowedFd,
  bind,
  connect,
  constants,
  epollCreate,
  listen,
  memfdCreate,
  type OwnedFd,
  open,
  pipe,
  recvmsg,
  SyscallError,
  sendmsg,
  socket,
  socketpair,
  unixAddress,
} from "../../ffi/mod.ts";
import { Broker } from "../../lib/broker/broker.ts";
import { builtInConfig } from "../../lib/config/schema.ts";
import { SILENT } from "../../lib/log.ts";
import { INTERFACES, type InterfaceName } from "../../lib/protocol/shmlink-v1.gen.ts";
import { openFds } from "../helpers/open-fds.ts";
import { makeRuntimeDir } from "../helpers/runtime-dir.ts";

const MESSAGES = Number(process.env["SHMLINK_FUZZ_MESSAGES"] ?? 60_000);
const PER_SEQUENCE = 400;
const CORPUS = JSON.parse(readFileSync(join(import.meta.dirname, "../fixtures/fuzz-seeds.json"), "utf8")) as number[];

/** xorshift: the same numbers for the same seed on every machine. */
class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = (seed * 2654435761 + 1) >>> 0 || 1;
  }

  below(limit: number): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return this.#state % limit;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T; // never called with an empty one
  }

  chance(outOf: number): boolean {
    return this.below(outOf) === 0;
  }
}

const NAMES = [
  "a",
  "b",
  "web/x",
  "web/*",
  "tcp:127.0.0.1:80",
  "",
  "a b",
  "x".repeat(129),
  "ü",
  "*",
  "127.0.0.1",
  "::1",
  "0.0.0.0",
  "/run/x",
  "shop",
  "1",
];
const NUMBERS = [
  0,
  1,
  2,
  3,
  4,
  7,
  63,
  80,
  255,
  4096,
  8192,
  65_535,
  65_536,
  1 << 20,
  0x7fffffff,
  0x80000000,
  0xffffffff,
];

/** One connection, and what it believes of its objects. */
class Peer {
  fd: OwnedFd;
  objects: [id: number, name: InterfaceName][] = [[1, "wl_display"]];
  nextId = 2;

  constructor(path: string) {
    this.fd = socket(constants.AF_UNIX, constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
    connect(this.fd, unixAddress(path), path);
  }
}

class Fuzz {
  readonly #random: Random;
  readonly #path: string;
  readonly #peers: Peer[] = [];
  readonly #pool: readonly OwnedFd[];
  sent = 0;

  constructor(seed: number, path: string, pool: readonly OwnedFd[]) {
    this.#random = new Random(seed);
    this.#path = path;
    this.#pool = pool;
  }

  run(broker: Broker): void {
    for (let index = 0; index < 3; index++) this.#peers.push(this.#join());
    while (this.sent < PER_SEQUENCE) {
      const index = this.#random.below(this.#peers.length);
      const peer = this.#peers[index] as Peer; // below its length
      const alive = this.#send(peer) && (this.#random.chance(4) || this.#receive(peer));
      if (!alive || this.#random.chance(150)) {
        peer.fd.close();
        this.#peers[index] = this.#join();
      }
      if (this.#random.chance(3)) broker.turn(0);
    }
    for (const { fd } of this.#peers) fd.close();
  }

  /** Most say hello at once, so that more than the greeting is tried. */
  #join(): Peer {
    const peer = new Peer(this.#path);
    if (this.#random.chance(6)) return peer;
    const words = (...values: number[]): Uint8Array => new Uint8Array(new Uint32Array(values).buffer);
    const manager = text("shmlink_manager_v1");
    const bind = [2, ((8 + 4 + manager.length * 4 + 8) << 16) | 0, 1, ...manager, 1, 3];
    const hello = [3, ((8 + text("fuzz").length * 4) << 16) | 0, ...text("fuzz")];
    this.#push(peer, words(1, (12 << 16) | 1, 2, ...bind), []);
    this.#push(peer, words(...hello), [this.#pool[0] as OwnedFd]); // /dev/null
    peer.objects.push(
      [2, "wl_registry"],
      [3, "shmlink_manager_v1"],
      [3, "shmlink_manager_v1"],
      [3, "shmlink_manager_v1"],
    );
    peer.nextId = 4;
    return peer;
  }

  #send(peer: Peer): boolean {
    const random = this.#random;
    const [id, name] = random.chance(40)
      ? ([random.pick(NUMBERS), "shmlink_manager_v1"] as const)
      : random.pick(peer.objects);
    const { requests } = INTERFACES[name];
    const opcode = random.chance(50) || requests.length === 0 ? random.below(12) : random.below(requests.length);
    const words: number[] = [];
    const fds: BorrowedFd[] = [];
    for (const arg of requests[opcode]?.args ?? []) this.#argument(peer, arg, words, fds);
    if (random.chance(60)) words.push(random.below(9));
    if (random.chance(60)) words.pop();
    if (random.chance(60)) fds.pop();
    if (random.chance(60)) fds.push(...Array.from({ length: random.below(28) }, () => this.#anyFd()));
    const size = 8 + words.length * 4 + (random.chance(80) ? random.pick([-8, -4, -1, 4, 4096]) : 0);
    const bytes = new Uint8Array(new Uint32Array([id, ((size & 0xffff) << 16) | opcode, ...words]).buffer);
    if (random.chance(80)) bytes[random.below(bytes.length)] = random.below(256);
    this.sent += 1;
    return this.#push(peer, bytes, fds.slice(0, 28));
  }

  #argument(
    peer: Peer,
    arg: { readonly kind: string; readonly interface?: string | undefined },
    words: number[],
    fds: BorrowedFd[],
  ): void {
    const random = this.#random;
    if (arg.kind === "string") words.push(...text(random.pick(NAMES)));
    else if (arg.kind === "fd") fds.push(this.#anyFd());
    else if (arg.kind === "new_id") words.push(this.#newId(peer, arg.interface));
    else if (arg.kind === "untyped_new_id")
      words.push(...text("shmlink_manager_v1"), 1, this.#newId(peer, "shmlink_manager_v1"));
    else if (arg.kind === "object") words.push(random.pick(peer.objects)[0]);
    else words.push(random.chance(2) ? random.below(4) : random.pick(NUMBERS));
  }

  #newId(peer: Peer, name: string | undefined): number {
    if (this.#random.chance(60)) return this.#random.pick([0, 1, 2, 3, 0xff000000, 0xffffffff]);
    peer.nextId += 1;
    if (name !== undefined && name in INTERFACES) peer.objects.push([peer.nextId - 1, name as InterfaceName]);
    return peer.nextId - 1;
  }

  #anyFd(): BorrowedFd {
    return this.#random.chance(8)
      ? this.#random.pick(this.#peers.length > 0 ? this.#peers.map(({ fd }) => fd) : this.#pool)
      : this.#random.pick(this.#pool);
  }

  /** In one piece or in two, so that messages and descriptors arrive apart. */
  #push(peer: Peer, bytes: Uint8Array, fds: readonly BorrowedFd[]): boolean {
    try {
      const cut = this.#random.chance(10) ? 1 + this.#random.below(bytes.length - 1) : bytes.length;
      sendmsg(peer.fd, bytes.subarray(0, cut), fds);
      if (cut < bytes.length) sendmsg(peer.fd, bytes.subarray(cut), []);
      return true;
    } catch (error) {
      if (error instanceof SyscallError) return false; // ended, or too many descriptors in flight
      throw error;
    }
  }

  #receive({ fd }: Peer): boolean {
    try {
      for (let received = recvmsg(fd); received !== null; received = recvmsg(fd)) {
        for (const each of received.fds) each.close();
        if (received.bytes.length === 0) return false;
      }
      return true;
    } catch (error) {
      if (error instanceof SyscallError) return false;
      throw error;
    }
  }
}

function text(value: string): number[] {
  const bytes = new TextEncoder().encode(`${value}\0`);
  const words = new Uint32Array(Math.ceil(bytes.length / 4));
  new Uint8Array(words.buffer).set(bytes);
  return [bytes.length, ...words];
}

/** One of each kind. */
function makePool(directory: string): OwnedFd[] {
  const [near, far] = socketpair(constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
  const { reader, writer } = pipe();
  const listener = socket(constants.AF_UNIX, constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
  bind(listener, unixAddress(`${directory}/other`), "other");
  listen(listener, 1);
  const nothing = open("/dev/null", constants.O_RDONLY);
  return [
    nothing,
    near,
    far,
    reader,
    writer,
    listener,
    memfdCreate("fuzz"),
    open("/", constants.O_RDONLY),
    epollCreate(),
  ];
}

function runSeed(broker: Broker, seed: number, directory: string): number {
  const pool = makePool(directory);
  const path = `${directory}/b`;
  const fuzz = new Fuzz(seed, path, pool);
  try {
    fuzz.run(broker);
    for (const fd of pool) fd.close(); // which is the end of contexts
    // Peers are gone: what they left is cleared within a few turns.
    for (let turns = 0; turns < 200 && (broker.sessionCount > 0 || !broker.isEmpty); turns++) broker.turn(1);
    expect(broker.sessionCount).toBe(0);
    expect(broker.isEmpty).toBe(true);
  } catch (error) {
    throw new Error(`Fuzzing failed with seed ${seed}: ${error instanceof Error ? error.stack : String(error)}`);
  }
  unlinkSync(`${directory}/other`);
  return fuzz.sent;
}

test("no sequence of messages and descriptors gets the broker to throw, or leaves anything behind", () => {
  using directory = makeRuntimeDir();
  const path = `${directory.path}/b`;
  const before = openFds().length;
  {
    const listener = socket(constants.AF_UNIX, constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
    bind(listener, unixAddress(path), path);
    listen(listener, 128);
    const limits = {
      ...builtInConfig.limits,
      maxMessagesPerSecond: 2 ** 24,
      maxSharedBytesPerUser: 2 ** 26,
      maxFdsPerUser: 200,
    };
    const config = { ...builtInConfig, limits };
    using broker = new Broker({ listeners: [listener], config, logger: SILENT, env: {} });
    const only = process.env["SHMLINK_FUZZ_SEED"];
    const seeds = only === undefined ? CORPUS : [Number(only)];
    let sent = 0;
    for (const seed of seeds) sent += runSeed(broker, seed, directory.path);
    const first = Date.now() % 1_000_000_000;
    for (let seed = first; only === undefined && sent < MESSAGES; seed++) sent += runSeed(broker, seed, directory.path);
  }
  expect(openFds().length).toBe(before);
}, 600_000);
