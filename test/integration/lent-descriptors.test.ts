/** publish() lends what it is given and copies only what cannot be sent at once: nobody gets anything else for it. */
import { expect, test } from "bun:test";
import { borrowFd, constants, kill, memfdCreate, pipe } from "../../ffi/mod.ts";
import { TestBroker } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";

expectNoFdLeaks();

/** More than the socket takes while nobody reads. */
const MANY = 3000;

test("what waits behind a full socket is what was lent, also after its owner has closed it", async () => {
  await using broker = new TestBroker();
  using giver = broker.connect({ reconnect: false });
  using taker = broker.connect({ reconnect: false });
  using offer = giver.offer("full");
  kill(broker.pid, constants.SIGSTOP);
  for (let index = 0; index < MANY; index++) giver.requestSync();
  const { reader, writer } = pipe();
  Object.defineProperty(giver, "answer", { value: () => undefined, configurable: true }); // a stopped broker has none
  expect(() => offer.publish([reader])).toThrow("An answer came without a bundle");
  Reflect.deleteProperty(giver, "answer");
  const { number } = reader;
  reader.close();
  using other = memfdCreate("in its place");
  expect(other.number).toBe(number);
  kill(broker.pid, constants.SIGCONT);
  giver.sync();
  using delivery = taker.take("full");
  expect(delivery.items.map(({ type }) => type)).toEqual(["pipe"]);
  writer.close();
});

test("what is handed out stays its owner's, open and unchanged", async () => {
  await using broker = new TestBroker();
  using giver = broker.connect();
  using taker = broker.connect();
  using offer = giver.offer("lent");
  using lent = memfdCreate("lent");
  const { number } = lent;
  for (let index = 0; index < 3; index++) {
    offer.publish([lent, lent]);
    using delivery = taker.take("lent");
    expect(delivery.items.length).toBe(2);
  }
  expect([lent.closed, lent.number]).toEqual([false, number]);
});

test("a descriptor that is not open is an error, and the connection stays as it was", async () => {
  await using broker = new TestBroker();
  using giver = broker.connect();
  using offer = giver.offer("some");
  using good = memfdCreate("good");
  for (const bad of [-1, 900]) {
    expect(() => offer.publish([good, borrowFd(bad)])).toThrow(expect.objectContaining({ code: "EBADF" }));
    expect(giver.list("some").length).toBe(1);
  }
  offer.publish([good]);
  using taker = broker.connect();
  using delivery = taker.take("some");
  expect(delivery.items.length).toBe(1);
});
