/**
 * Requests that are a lot of work: grants whose patterns take long to compare, on many names, processes that are looked into, and
 * a bundle for many.
 * It is done a little at a time, and somebody else is answered meanwhile. The broker is in this process and goes by our turns.
 */
import { expect, test } from "bun:test";
import {
  addSeals,
  bind,
  constants,
  ftruncate,
  listen,
  memfdCreate,
  type OwnedFd,
  pipe,
  socket,
  unixAddress,
} from "../../ffi/mod.ts";
import { Broker } from "../../lib/broker/broker.ts";
import { BUILT_IN_RULES, builtInConfig, type ShmlinkConfig } from "../../lib/config/schema.ts";
import { type Logger, SILENT } from "../../lib/log.ts";
import { SHMLINK_MANAGER_V1_RIGHTS as RIGHTS } from "../../lib/protocol/shmlink-v1.gen.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { message, type RawEvent, RawPeer, text } from "../helpers/raw-peer.ts";
import { makeRuntimeDir } from "../helpers/runtime-dir.ts";

expectNoFdLeaks();

/** With the message's numbers: of the manager, which is object 3, and of a grant. */
const [LISTEN, DIAL, REGISTER, RESOLVE, LIST, OFFER, TAKE, MINT] = [1, 2, 3, 4, 6, 7, 8, 9];
const [ADD, CONNECT, REVOKE] = [1, 2, 3];
/** Of an offer, the flags of the latter and what it is answered. */
const [PUBLISH, KEEP, NOW, REGISTERED, PUBLISHED, REFUSED, TAKEN] = [2, 1, 2, 0, 2, 3, 4];
const GRANT = 900;
const MANY = 100;
/** Compared with one of our names it fits nearly everywhere, and in the end nowhere. */
const SLOW = `*${"a".repeat(63)}b`;
const ALL = Object.values(RIGHTS).reduce((all, right) => all | right, 0);
const nameOf = (index: number): string => `${"a".repeat(124)}${1000 + index}`;

class Place implements Disposable {
  readonly #directory = makeRuntimeDir();
  readonly #path = `${this.#directory.path}/b`;
  readonly #stack = new DisposableStack();
  readonly broker: Broker;
  readonly #heard: Map<RawPeer, RawEvent[]> = new Map();

  constructor({
    rules = BUILT_IN_RULES,
    logger = SILENT,
  }: Partial<Pick<ShmlinkConfig, "rules"> & { logger: Logger }> = {}) {
    const listener = socket(constants.AF_UNIX, constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
    bind(listener, unixAddress(this.#path), this.#path);
    listen(listener, 16);
    const limits = { ...builtInConfig.limits, maxMessagesPerSecond: 2 ** 24 };
    const config = { ...builtInConfig, limits, rules };
    this.broker = this.#stack.use(new Broker({ listeners: [listener], config, logger, env: {} }));
  }

  join(at?: RawPeer["fd"]): RawPeer {
    const peer = this.#stack.use(new RawPeer(at ?? this.#path));
    peer.greet();
    this.until(() => this.heard(peer).some(({ sender }) => sender === 3));
    return peer;
  }

  /** All that it was told so far. */
  heard(peer: RawPeer): readonly RawEvent[] {
    const events = this.#heard.get(peer) ?? [];
    this.#heard.set(peer, events);
    try {
      for (;;) {
        const event = peer.next(0);
        if (event === undefined) throw new Error("The broker has ended the connection");
        events.push(event);
      }
    } catch (error) {
      if (!String(error).includes("sent nothing")) throw error;
    }
    return events;
  }

  until(condition: () => boolean): void {
    for (let tries = 0; !condition(); tries++) {
      if (tries === 100_000) throw new Error("Waited in vain");
      this.broker.turn(1);
    }
  }

  /** One that was minted with rights on every name, which are found last. */
  mint(parent: RawPeer): RawPeer {
    parent.send(message(3, MINT, GRANT));
    for (let count = 0; count < 63; count++) parent.send(message(GRANT, ADD, ALL, ...text(SLOW)));
    parent.send(message(GRANT, ADD, ALL, ...text("*")));
    parent.send(message(GRANT, CONNECT));
    this.until(() => this.heard(parent).some(({ sender }) => sender === GRANT));
    const [fd] = parent.received.splice(0);
    return this.join(fd);
  }

  /** Events of `object` that the peer has heard when `other` has had an answer. */
  heardBeside(peer: RawPeer, other: RawPeer, isOne: (event: RawEvent) => boolean): number {
    other.send(message(1, 0, 800));
    this.until(() => this.heard(other).some(({ sender }) => sender === 800));
    return this.heard(peer).filter(isOne).length;
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
    this.#directory[Symbol.dispose]();
  }
}

test("a listing of a minted connection is looked through while others are answered, and is whole", () => {
  using place = new Place();
  const [owner, other] = [place.join(), place.join()];
  for (let index = 0; index < MANY; index++) owner.send(message(3, LISTEN, 10 + index, ...text(nameOf(index)), 0));
  const holder = place.mint(owner);
  holder.send(message(3, LIST, 10, ...text("")));
  const isEntry = ({ sender, opcode }: RawEvent): boolean => sender === 10 && opcode === 0;
  expect(place.heardBeside(holder, other, isEntry)).toBeLessThan(MANY);
  place.until(() => place.heard(holder).some(({ sender, opcode }) => sender === 10 && opcode === 1));
  expect(place.heard(holder).filter(isEntry).length).toBe(1 + MANY);
});

test("a listing that is given up while it is looked through is not in the audit", () => {
  const lines: string[] = [];
  const note = (line: string): void => void lines.push(line);
  using place = new Place({ logger: { ...SILENT, warn: note, info: note } });
  const [owner, other] = [place.join(), place.join()];
  for (let index = 0; index < MANY; index++) owner.send(message(3, LISTEN, 10 + index, ...text(nameOf(index)), 0));
  const [holder, another] = [place.mint(owner), place.mint(other)];
  const heard = (peer: RawPeer): readonly number[] =>
    place.heard(peer).flatMap(({ sender, opcode }) => (sender === 10 ? opcode : []));
  holder.send(message(3, LIST, 10, ...text("")));
  place.until(() => heard(holder).length > 0);
  expect(heard(holder)).toEqual([0]); // the broker itself, and the others are looked through
  const { sessionCount } = place.broker;
  holder.fd.close();
  place.until(() => place.broker.sessionCount < sessionCount);
  another.send(message(3, LIST, 10, ...text("")));
  place.until(() => heard(another).includes(1)); // in so many turns that the other one has had its last
  expect(lines.filter((line) => / inspect/.test(line))).toEqual(["Used grant inspect"]);
});

test("what is revoked before a listing was sent is not in it", () => {
  using place = new Place();
  const owner = place.join();
  for (let index = 0; index < MANY; index++) owner.send(message(3, LISTEN, 10 + index, ...text(nameOf(index)), 0));
  const holder = place.mint(owner);
  holder.send(message(3, LIST, 10, ...text("")));
  place.broker.turn(0);
  owner.send(message(GRANT, REVOKE, ALL, ...text("")));
  place.until(() => place.heard(holder).some(({ sender, opcode }) => sender === 10 && opcode === 1));
  expect(place.heard(holder).filter(({ sender, opcode }) => sender === 10 && opcode === 0).length).toBe(1);
});

test("what stood for a revoked right is ended while others are answered, and nobody finds it until then", () => {
  using place = new Place();
  const [owner, other] = [place.join(), place.join()];
  const holder = place.mint(owner);
  for (let index = 0; index < MANY; index++) holder.send(message(3, TAKE, 10 + index, ...text(nameOf(index)), 1));
  using counters = memfdCreate("counters");
  ftruncate(counters, 4096);
  addSeals(counters, constants.F_SEAL_SHRINK | constants.F_SEAL_GROW);
  holder.send(message(3, OFFER, 498, ...text("gift")));
  holder.send(message(498, 1), [counters]); // add
  holder.send(message(498, 2, 1)); // publish, to be kept
  const address = text("127.0.0.1");
  holder.send(message(3, REGISTER, 499, ...address, 80, ...text("/run/x"), 0, 0), [counters]);
  holder.send(message(3, LISTEN, 500, ...text("last"), 0));
  place.until(() => place.heard(holder).some(({ sender }) => sender === 500));
  const ask = (id: number): void => {
    owner.send(message(3, TAKE, id, ...text("gift"), 0));
    owner.send(message(3, RESOLVE, id + 1, ...address, 80));
    owner.send(message(3, DIAL, id + 2, ...text("last"), 0));
    place.until(() => place.heard(owner).some(({ sender }) => sender === id + 2));
  };
  const answersFrom = (id: number): unknown[] =>
    [id, id + 1, id + 2].map((object) => place.heard(owner).find(({ sender }) => sender === object)?.opcode);
  ask(940);
  expect(answersFrom(940)).toEqual([0, 0, 0]); // a descriptor, found, a ring to map
  owner.send(message(GRANT, REVOKE, ALL, ...text("*")));
  ask(950);
  const isEnd = ({ sender }: RawEvent): boolean => sender >= 10 && sender < 10 + MANY;
  expect(place.heardBeside(holder, other, isEnd)).toBeLessThan(MANY);
  expect(answersFrom(950)).toEqual([2, 1, 2]); // failed, none, failed
  const isLast = ({ sender, opcode }: RawEvent): boolean => sender === 500 && opcode === 1; // failed
  place.until(() => place.heard(holder).some(isLast));
  expect(place.heard(holder).filter(isEnd).length).toBe(MANY);
});

test("what is kept is handed to all who wait for it while others are answered", () => {
  using place = new Place();
  const [owner, other] = [place.join(), place.join()];
  const takers = Array.from({ length: 20 }, () => place.join());
  for (const taker of takers)
    for (let object = 10; object < 60; object++) taker.send(message(3, TAKE, object, ...text("kept"), 1));
  for (const taker of takers) place.heardBeside(other, taker, () => false); // they wait
  using file = memfdCreate("kept");
  owner.send(message(3, OFFER, 10, ...text("kept")));
  owner.send(message(10, ADD), [file]);
  owner.send(message(10, PUBLISH, KEEP));
  const isAnswer = ({ sender }: RawEvent): boolean => sender >= 10 && sender < 60;
  const answers = (): number => takers.reduce((sum, taker) => sum + place.heard(taker).filter(isAnswer).length, 0);
  place.until(() => answers() > 0);
  place.heardBeside(owner, other, () => false);
  expect(answers()).toBeLessThan(20 * 50 * 2);
  place.until(() => answers() === 20 * 50 * 2); // a descriptor, and done
});

const criteria = { action: ["take"], fd: ["pipe"] } as const;
const WITHOUT_PIPES = [{ name: "no-pipes", effect: "deny", where: "", criteria } as const, ...BUILT_IN_RULES];

/** A holder who waits many times, as objects from 10 on, for what an owner has as his object 10. */
function manyWaiting(place: Place): { readonly owner: RawPeer; readonly holder: RawPeer } {
  const owner = place.join();
  const holder = place.mint(owner);
  for (let index = 0; index < MANY; index++) holder.send(message(3, TAKE, 10 + index, ...text(nameOf(0)), 1));
  place.heardBeside(owner, holder, () => false); // they wait
  owner.send(message(3, OFFER, 10, ...text(nameOf(0))));
  return { owner, holder };
}

test("what is only for who waits is tried with those who have waited longest, and nobody else loses his place by it", () => {
  using place = new Place({ rules: WITHOUT_PIPES });
  const { owner, holder } = manyWaiting(place);
  const publish = (fd: OwnedFd, answer: number): RawEvent | undefined => {
    owner.send(message(10, ADD), [fd]);
    owner.send(message(10, PUBLISH, NOW));
    const isAnswer = ({ sender, opcode }: RawEvent): boolean => sender === 10 && opcode === answer;
    place.until(() => place.heard(owner).some(isAnswer));
    return place.heard(owner).find(isAnswer);
  };
  const told = (): string[] =>
    place
      .heard(holder)
      .flatMap(({ sender, opcode }) => (sender >= 10 && sender < 10 + MANY ? `${sender}: ${opcode}` : []));
  using ends = new DisposableStack();
  const { reader, writer } = pipe();
  for (const fd of [reader, writer]) ends.use(fd);
  const refusal = publish(writer, REFUSED);
  expect(new TextDecoder().decode(refusal?.body)).toContain(": none of those who have waited longest may have it");
  const tried = told();
  expect(tried).toEqual(Array.from({ length: tried.length }, (_, index) => `${10 + index}: 2`)); // failed
  expect([0, MANY]).not.toContain(tried.length);
  using gift = memfdCreate("gift");
  publish(gift, PUBLISHED);
  expect(told()).toEqual([...tried, `${10 + tried.length}: 0`, `${10 + tried.length}: 1`]); // a descriptor, and done
});

test("what is kept stays when what is only for who waits is refused while it is handed out", () => {
  using place = new Place({ rules: WITHOUT_PIPES });
  const { owner, holder } = manyWaiting(place);
  using ends = new DisposableStack();
  const [file, { reader, writer }] = [ends.use(memfdCreate("kept")), pipe()];
  for (const fd of [reader, writer]) ends.use(fd);
  for (const [fd, flags] of [
    [file, KEEP],
    [writer, NOW],
  ] as const) {
    owner.send(message(10, ADD), [fd]);
    owner.send(message(10, PUBLISH, flags));
  }
  const settled = (): RawEvent[] =>
    place.heard(holder).filter(({ sender, opcode }) => sender >= 10 && sender <= 10 + MANY && opcode > 0);
  place.until(() => settled().length === MANY); // done, or failed
  const answers = place.heard(owner).filter(({ sender, opcode }) => sender === 10 && opcode !== TAKEN);
  expect(answers.map(({ opcode }) => opcode)).toEqual([REGISTERED, PUBLISHED, REFUSED]);
  expect(settled().map(({ opcode }) => opcode)).toContain(2); // some who waited longest may not have the other one
  holder.send(message(3, TAKE, 10 + MANY, ...text(nameOf(0)), 0));
  place.until(() => settled().length === MANY + 1);
  expect(settled().at(-1)).toMatchObject({ sender: 10 + MANY, opcode: 1 });
});

test("who has a process looked into has had his turn", () => {
  using place = new Place();
  const client = place.join();
  using counters = memfdCreate("counters");
  ftruncate(counters, 4096);
  addSeals(counters, constants.F_SEAL_SHRINK | constants.F_SEAL_GROW);
  const nobody = 2 ** 22; // the kernel gives no such number
  const register = message(3, REGISTER, 10, ...text("127.0.0.1"), 80, ...text("/run/x"), 0, nobody);
  const sync = message(1, 0, 11);
  client.send(new Uint8Array([...register, ...sync]), [counters]);
  const isAnswered = (object: number): boolean => place.heard(client).some(({ sender }) => sender === object);
  place.until(() => isAnswered(10));
  expect(isAnswered(11)).toBe(false);
  place.until(() => isAnswered(11));
});

test("a listing of many records is more than one request, and is of what there is when it is its turn", () => {
  using place = new Place();
  const [owner, client] = [place.join(), place.join()];
  for (let index = 0; index < 1100; index++) {
    owner.send(message(3, LISTEN, 10 + index, ...text(nameOf(index)), 0));
    if (index % 100 === 0) place.until(() => place.heard(owner).some(({ sender }) => sender === 10 + index));
  }
  place.until(() => place.heard(owner).some(({ sender }) => sender === 10 + 1099));
  const lists = Array.from({ length: 15 }, (_, index) => [...message(3, LIST, 10 + index, ...text("late"))]);
  client.send(new Uint8Array([...lists.flat(), ...message(1, 0, 30)]));
  client.send(message(3, LISTEN, 31, ...text("late"), 0));
  const answersOf = (object: number): number => place.heard(client).filter(({ sender }) => sender === object).length;
  place.until(() => answersOf(10) > 0);
  expect(answersOf(30)).toBe(0);
  place.until(() => answersOf(31) > 0);
  client.send(
    new Uint8Array([...message(3, LIST, 40, ...text("last")), ...message(3, LISTEN, 41, ...text("last"), 0)]),
  );
  place.until(() => answersOf(40) > 0);
  expect([answersOf(10), answersOf(40)]).toEqual([1, 2]); // done, and an entry before it
});
