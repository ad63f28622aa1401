/** How a client sleeps for an answer: in recvmsg(2), too, on a connection of its own, and never on one that was handed down. */
import { expect, test } from "bun:test";
import { constants, getStatusFlags } from "../../ffi/mod.ts";
import { BrokerLink } from "../../lib/client/broker-link.ts";
import { TestBroker } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { handDown } from "../helpers/handed-down.ts";
import { endBroker } from "../helpers/staying.ts";

expectNoFdLeaks();

/** More than both ways of sleeping have turns for. */
const MANY = 100;

/** Whether recvmsg(2) would wait, after many round trips. */
function isBlocking(link: BrokerLink): boolean {
  for (let count = 0; count < MANY; count++) link.sync();
  return (getStatusFlags(link.fd) & constants.O_NONBLOCK) === 0;
}

test("a connection of one's own sleeps in recvmsg(2) as well, and so does the one after it", async () => {
  await using broker = new TestBroker();
  using link = broker.connect({ wake: true });
  using service = link.listen("it"); // who offers something comes back by himself
  expect(isBlocking(link)).toBe(true);
  const { generation } = link;
  await endBroker(broker, "SIGKILL");
  link.list();
  expect(link.generation).toBeGreaterThan(generation); // a broker may be met that is just ending
  expect(isBlocking(link)).toBe(true);
  expect(service.name).toBe("it");
});

test("a connection that was handed down stays as it is: somebody else may have it as well", async () => {
  await using broker = new TestBroker();
  using parent = broker.connect();
  using minted = parent.mint([{ rights: ["dial"], name: "db" }]);
  using shared = minted.fd.dup();
  const before = getStatusFlags(shared);
  using link = BrokerLink.connect({ name: "holder", env: handDown(broker, minted) });
  for (let count = 0; count < MANY; count++) link.sync();
  expect(getStatusFlags(shared)).toBe(before);
});
