/** Connections that wait for who takes the host they name: too many of them give way, and not to one flooded host. */
import { expect, test } from "bun:test";
import { constants, type OwnedFd, socketpair } from "../../../../ffi/mod.ts";
import { ManyNames, retryMs } from "../../../../lib/cli/offer/handing-on.ts";
import type { BrokerLink } from "../../../../lib/client/broker-link.ts";
import { Reactor } from "../../../../lib/transport/reactor.ts";
import { TestBroker } from "../../../helpers/broker.ts";
import { expectNoFdLeaks } from "../../../helpers/fd-leak.ts";

expectNoFdLeaks();

const MAX_PATIENT = 256;

class Crowd implements Disposable {
  readonly dropped: string[] = [];
  readonly #reactor: Reactor = new Reactor();
  readonly #many: ManyNames;
  readonly #clients: OwnedFd[] = [];

  constructor(link: BrokerLink) {
    const onDropped = (why: string): void => void this.dropped.push(why);
    this.#many = new ManyNames({ link, reactor: this.#reactor, name: "web", patienceMs: 3_600_000, onDropped });
  }

  /** Passes one on. The loop never turns, so nobody is tried again in between. */
  name(host: string): void {
    const [client, connection] = socketpair(constants.SOCK_STREAM);
    this.#clients.push(client);
    this.#many.pass(connection, host);
  }

  [Symbol.dispose](): void {
    this.#many[Symbol.dispose]();
    for (const client of this.#clients) client.close();
    this.#reactor[Symbol.dispose]();
  }
}

test("one host's waiting connections give way to its own, not another host's", async () => {
  await using broker = new TestBroker();
  using link = broker.connect();
  using crowd = new Crowd(link);
  crowd.name("one.test");
  for (let count = 0; count < 600; count++) crowd.name("flooded.test");
  crowd.name("two.test");
  const nDropped = 602 - MAX_PATIENT;
  expect(crowd.dropped).toEqual(Array(nDropped).fill('Nobody takes "web/flooded.test", and others came'));
});

test("of many hosts that nobody takes, the one that waits longest gives way; it is tried a last time", async () => {
  await using broker = new TestBroker();
  using link = broker.connect();
  using taker = broker.connect();
  using crowd = new Crowd(link);
  for (let index = 0; index < MAX_PATIENT; index++) crowd.name(`h${index}.test`);
  expect(crowd.dropped).toEqual([]);
  using delivery = taker.requestDelivery("web/h0.test", true);
  taker.sync();
  for (let index = 0; index < 2; index++) crowd.name(`later${index}.test`);
  expect(crowd.dropped).toEqual(['Nobody takes "web/h1.test", and others came']);
  taker.sync();
  expect(delivery.items).toHaveLength(1);
});

test("hosts that nobody takes are not tried more often than a thousand times a second altogether", () => {
  for (const nHosts of [1, 16, MAX_PATIENT]) expect(nHosts / retryMs(nHosts)).toBeLessThan(1);
  expect([1, 16, MAX_PATIENT].map(retryMs)).toEqual([21, 36, 276]);
});
