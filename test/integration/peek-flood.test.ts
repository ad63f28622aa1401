/** `offer --peek` under strangers who never end: who says at once where he wants to go gets there while they are all there. */
import { expect, test } from "bun:test";
import {
  connect,
  constants,
  getsockname,
  type OwnedFd,
  recv,
  SyscallError,
  setNonBlocking,
  socket,
  write,
} from "../../ffi/mod.ts";
import { Accepting } from "../../lib/cli/offer/accepting.ts";
import { listenTcp, parseTcp } from "../../lib/cli/offer/address.ts";
import { PEEK_LIMITS } from "../../lib/cli/offer/peeking.ts";
import type { BrokerLink } from "../../lib/client/broker-link.ts";
import { Reactor } from "../../lib/transport/reactor.ts";
import { TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { Staying } from "../helpers/staying.ts";

expectNoFdLeaks();

/** Nobody is disconnected for his slowness before a test ends: who waits for that, waits in vain. */
const FOREVER_MS = 3_600_000;
const STRANGERS = 600;
/** As many as are looked at, or wait for a taker. */
const KEPT = 256;

/** It reads the whole request: an end with something unread would be a reset, and take the answer away. */
const SERVE = ["sh", "-c", "read request; read host; read end; echo served"] as const;

function ask(host: string): string {
  return `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
}

function isOpen(client: OwnedFd): boolean {
  try {
    return recv(client, new Uint8Array(1), 0) === null;
  } catch (error) {
    if (error instanceof SyscallError && error.code === "ECONNRESET") return false;
    throw error;
  }
}

class Front implements Disposable {
  readonly #owned: DisposableStack = new DisposableStack();
  readonly #reactor: Reactor;
  readonly #listener: OwnedFd;

  constructor(link: BrokerLink) {
    this.#reactor = this.#owned.use(new Reactor());
    this.#listener = this.#owned.use(listenTcp(parseTcp("127.0.0.1:0"), "127.0.0.1:0"));
    const how = { name: "web", peek: "http", patienceMs: FOREVER_MS, onDropped: () => undefined } as const;
    const limits = { ...PEEK_LIMITS, maxMs: FOREVER_MS };
    this.#owned.use(new Accepting({ link, reactor: this.#reactor, listener: this.#listener, limits, ...how }));
  }

  /** A client that says `text`, and then nothing any more. */
  open(text: string): OwnedFd {
    const client = this.#owned.use(socket(constants.AF_INET, constants.SOCK_STREAM));
    connect(client, getsockname(this.#listener));
    setNonBlocking(client, true);
    if (text !== "") write(client, new TextEncoder().encode(text));
    this.#reactor.runOnce(0);
    return client;
  }

  /** Serves until the client has got an answer. */
  async answer(client: OwnedFd): Promise<string> {
    const bytes = new Uint8Array(100);
    let count: number | null = null;
    await waitUntil(() => {
      this.#reactor.runOnce(0);
      count ??= recv(client, bytes, 0);
      return count !== null;
    }, "an answer");
    return new TextDecoder().decode(bytes.subarray(0, count ?? 0));
  }

  [Symbol.dispose](): void {
    this.#owned.dispose();
  }
}

for (const [who, textOf] of [
  ["say nothing", () => ""],
  ["name hosts that nobody takes", (index: number) => ask(`no${index}.test`)],
] as const)
  test(`a client is served while ${STRANGERS} strangers are there who ${who}`, async () => {
    await using broker = new TestBroker();
    using link = broker.connect();
    await using _taker = new Staying(broker, "take", "web/good.test", "--keep", "--stdio", "--", ...SERVE);
    using front = new Front(link);
    expect(await front.answer(front.open(ask("good.test")))).toBe("served\n");
    const strangers = Array.from({ length: STRANGERS }, (_, index) => front.open(textOf(index)));
    expect(await front.answer(front.open(ask("good.test")))).toBe("served\n");
    expect(strangers.filter(isOpen).length).toBeGreaterThanOrEqual(KEPT - 1);
  }, 60_000);
