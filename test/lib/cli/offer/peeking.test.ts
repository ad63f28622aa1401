/** Looking at the beginning of a connection: whoever dawdles, lies or says too much is gone, and nothing is taken away. */
import { expect, test } from "bun:test";
import { constants, type OwnedFd, recv, SyscallError, shutdown, socketpair, write } from "../../../../ffi/mod.ts";
import { PEEK_LIMITS, Peeking, type PeekLimits } from "../../../../lib/cli/offer/peeking.ts";
import { Reactor } from "../../../../lib/transport/reactor.ts";
import { type Peeked, peekHttpHost } from "../../../../lib/util/http-host.ts";
import { peekTlsSni } from "../../../../lib/util/tls-sni.ts";
import { expectNoFdLeaks } from "../../../helpers/fd-leak.ts";

expectNoFdLeaks();

const LONG_MS = 60_000;

class Visit implements Disposable {
  readonly reactor: Reactor = new Reactor();
  readonly client: OwnedFd;
  readonly hosts: string[] = [];
  readonly dropped: string[] = [];
  handedOn: OwnedFd | undefined;
  readonly #peeking: Peeking;

  constructor(look: (bytes: Uint8Array) => Peeked, limits: Partial<PeekLimits>) {
    const [client, connection] = socketpair(constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
    this.client = client;
    this.#peeking = new Peeking({
      reactor: this.reactor,
      look,
      limits: { ...PEEK_LIMITS, ...limits },
      onHost: (fd, host) => {
        this.handedOn = fd;
        this.hosts.push(host);
      },
      onDropped: (why) => this.dropped.push(why),
    });
    this.#peeking.add(connection);
  }

  say(text: string | Uint8Array): void {
    write(this.client, typeof text === "string" ? new TextEncoder().encode(text) : text);
    this.reactor.runOnce(0);
  }

  /** Turns the loop until something is decided. */
  decide(): void {
    while (this.hosts.length === 0 && this.dropped.length === 0) this.reactor.runOnce(-1);
  }

  [Symbol.dispose](): void {
    this.#peeking[Symbol.dispose]();
    this.handedOn?.close();
    this.client.close();
    this.reactor[Symbol.dispose]();
  }
}

const REQUEST = "GET / HTTP/1.1\r\nAccept: */*\r\nHost: slow.test\r\n\r\n";

test("a header that comes byte by byte is waited for, and reaches whom it names whole", () => {
  using visit = new Visit(peekHttpHost, { maxBytes: 16_384, maxMs: LONG_MS });
  for (const byte of REQUEST) {
    expect(visit.hosts.length === 0 || visit.dropped.length > 0).toBe(true);
    visit.say(byte);
    if (visit.hosts.length > 0) break; // the rest of the header does not matter
  }
  visit.decide();
  expect(visit.hosts).toEqual(["slow.test"]);
  const bytes = new Uint8Array(1000);
  const count = recv(visit.handedOn as OwnedFd, bytes, 0) ?? 0;
  expect(REQUEST).toStartWith(new TextDecoder().decode(bytes.subarray(0, count)));
  expect(count).toBeGreaterThan(REQUEST.indexOf("slow.test"));
});

test("who is too slow is disconnected when the time is over, however often he says a little", () => {
  const started = performance.now();
  using visit = new Visit(peekHttpHost, { maxBytes: 16_384, maxMs: 60 });
  for (let index = 0; visit.dropped.length === 0; index++) {
    if (index < 40) visit.say(REQUEST[index] ?? "");
    visit.reactor.runOnce(1);
    expect(performance.now() - started).toBeLessThan(LONG_MS);
  }
  expect([visit.dropped, visit.hosts]).toEqual([["it named no host in 60 ms"], []]);
  expect(performance.now() - started).toBeGreaterThanOrEqual(60);
});

test("who says nothing at all is disconnected when the time is over", () => {
  using visit = new Visit(peekTlsSni, { maxBytes: 16_384, maxMs: 20 });
  visit.decide();
  expect(visit.dropped).toEqual(["it named no host in 20 ms"]);
});

test("a header without an end is read up to the limit and no further", () => {
  using visit = new Visit(peekHttpHost, { maxBytes: 512, maxMs: LONG_MS });
  visit.say(`GET /${"x".repeat(600)}`);
  visit.decide();
  expect(visit.dropped).toEqual(["it named no host in 512 bytes"]);
});

test("a name that is none, and a header without any, name nobody; of two the first counts", () => {
  for (const lie of ["Host: ../etc\r\n\r\n", "Host: a b\r\n\r\n", "Host:\r\n\r\n", "X-Host: one.test\r\n\r\n"]) {
    using visit = new Visit(peekHttpHost, { maxBytes: 16_384, maxMs: LONG_MS });
    visit.say(`GET / HTTP/1.1\r\n${lie}`);
    visit.decide();
    expect([lie, visit.hosts, visit.dropped]).toEqual([lie, [], ["its beginning names no host"]]);
  }
  using visit = new Visit(peekHttpHost, { maxBytes: 16_384, maxMs: LONG_MS });
  visit.say("GET / HTTP/1.1\r\nHost: one.test\r\nHost: two.test\r\n\r\n"); // the second may not have come yet, another time
  visit.decide();
  expect(visit.hosts).toEqual(["one.test"]);
});

test("who ends in the middle of a header is told apart from who is slow", () => {
  using visit = new Visit(peekHttpHost, { maxBytes: 16_384, maxMs: LONG_MS });
  visit.say("GET / HTTP/1.1\r\nHo");
  expect(visit.dropped).toEqual([]);
  shutdown(visit.client, constants.SHUT_WR);
  visit.decide();
  expect(visit.dropped).toEqual(["it ended before it named a host"]);
});

/** A record that says it is a handshake of `said` bytes, with a hello in it that says it has `hello`. */
function hello(said: number, claimed: number, body: readonly number[]): Uint8Array {
  return Uint8Array.of(22, 3, 1, said >> 8, said & 255, 1, 0, claimed >> 8, claimed & 255, 3, 3, ...body);
}

test("a hello whose lengths lie names nobody: what is inside ends where the record does, and the wait has an end", () => {
  const random = new Array<number>(32).fill(7);
  const lies: Readonly<Record<string, Uint8Array>> = {
    "a session id beyond the hello": hello(43, 39, [...random, 200, 1, 2, 3, 4]),
    "extensions beyond the hello": hello(47, 43, [...random, 0, 0, 2, 19, 1, 1, 0, 255, 255]),
    "a record of no bytes": hello(0, 39, random),
    "no handshake": Uint8Array.of(23, 3, 1, 0, 5, 1, 0, 0, 1, 3),
  };
  for (const [what, bytes] of Object.entries(lies)) {
    using visit = new Visit(peekTlsSni, { maxBytes: 16_384, maxMs: 50 });
    visit.say(bytes);
    visit.decide();
    expect([what, visit.hosts]).toEqual([what, []]);
    expect(visit.dropped).toHaveLength(1);
  }
});

function isClosed(client: OwnedFd): boolean {
  try {
    return recv(client, new Uint8Array(1), 0) === 0;
  } catch (error) {
    if (error instanceof SyscallError && error.code === "ECONNRESET") return true; // it had said something
    throw error;
  }
}

/** Those who come while only `maxConnections` may be looked at, by their numbers. */
class Crowd implements Disposable {
  readonly reactor: Reactor = new Reactor();
  readonly clients: OwnedFd[] = [];
  readonly hosts: string[] = [];
  readonly dropped: string[] = [];
  readonly #peeking: Peeking;

  constructor(maxConnections: number) {
    this.#peeking = new Peeking({
      reactor: this.reactor,
      look: peekHttpHost,
      limits: { ...PEEK_LIMITS, maxMs: LONG_MS, maxConnections },
      onHost: (connection, host) => {
        connection.close();
        this.hosts.push(host);
      },
      onDropped: (why) => this.dropped.push(why),
    });
  }

  come(): OwnedFd {
    const [client, connection] = socketpair(constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
    this.clients.push(client);
    this.#peeking.add(connection);
    return client;
  }

  say(client: OwnedFd, text: string): void {
    write(client, new TextEncoder().encode(text));
  }

  /** Whose connections were closed. */
  get closed(): number[] {
    return this.clients.flatMap((client, index) => (isClosed(client) ? [index] : []));
  }

  [Symbol.dispose](): void {
    this.#peeking[Symbol.dispose]();
    for (const client of this.clients) client.close();
    this.reactor[Symbol.dispose]();
  }
}

test("where too many say nothing the oldest gives way, also one who says a little now and then", () => {
  using crowd = new Crowd(3);
  const slow = crowd.come();
  for (const text of ["GET ", "/ HT"]) {
    crowd.come();
    crowd.say(slow, text);
    crowd.reactor.runOnce(0);
  }
  expect(crowd.closed).toEqual([]);
  crowd.come();
  expect(crowd.closed).toEqual([0]);
  crowd.come();
  expect(crowd.closed).toEqual([0, 1]);
  expect(crowd.dropped).toEqual(Array(2).fill("it named no host, and others came"));
  expect(crowd.hosts).toEqual([]);
});

test("who has named his host before he would give way is not closed", () => {
  using crowd = new Crowd(2);
  crowd.say(crowd.come(), REQUEST); // and nobody has looked yet
  crowd.come();
  crowd.come();
  expect([crowd.hosts, crowd.dropped]).toEqual([["slow.test"], []]);
  crowd.come();
  expect(crowd.dropped).toHaveLength(1);
});
