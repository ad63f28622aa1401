/** A minted connection as a program finds it that has inherited it. */
import { constants, fcntl } from "../../ffi/mod.ts";
import { BrokerLink } from "../../lib/client/broker-link.ts";
import type { GrantSpec, Minted } from "../../lib/client/grant.ts";
import type { TestBroker } from "./broker.ts";

/** A process uses each number once (connect.ts), whatever test file it is in. */
let lastFd = 200;

/** @returns the environment to connect with; the connection is the environment's then */
export function handDown({ env }: Pick<TestBroker, "env">, minted: Pick<Minted, "fd">): Record<string, string> {
  lastFd = fcntl(minted.fd, constants.F_DUPFD_CLOEXEC, lastFd + 1);
  minted.fd.close();
  return { ...env, SHMLINK_FD: String(lastFd) };
}

/** Connects with these grants and no other authority. */
export function enter(broker: TestBroker, parent: BrokerLink, grants: readonly GrantSpec[]): BrokerLink {
  using minted = parent.mint(grants);
  return BrokerLink.connect({ name: "holder", wake: true, env: handDown(broker, minted) });
}
