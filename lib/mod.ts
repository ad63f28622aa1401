/**
 * shmlink as a library: connect to the broker, offer services, dial them, exchange messages over shared memory.
 *
 *     const link = connect({ name: "example", wake: true });
 *     const channel = await link.dialAsync("echo");
 *     await channel.sendAsync(new TextEncoder().encode("hello"));
 */
import "./util/disposable-stack.ts";
import { BrokerLink, type ConnectOptions } from "./client/broker-link.ts";

export {
  Channel,
  ChannelSetup,
  type Direction,
  type EndOptions,
  type Message,
  type ReceiveOptions,
  type SendAsyncOptions,
  type SendOptions,
} from "./channel/channel.ts";
export {
  BrokerLink,
  type ConnectOptions,
  type DialOptions,
  type Entry,
  type ListenOptions,
  type TakeOptions,
} from "./client/broker-link.ts";
export { Delivery, type Item } from "./client/delivery.ts";
export type { EntryKind } from "./client/entry.ts";
export { type ContextOptions, type GrantSpec, Minted, RIGHTS, type RightName } from "./client/grant.ts";
export { Offer, type PublishOptions, type Taken } from "./client/offer.ts";
export type { BrokerEvent } from "./client/renewal.ts";
export { Service } from "./client/service.ts";
export { ClosedError, ConfigError, type FailureCode, FailureError, ProtocolError, ShmlinkError } from "./errors.ts";
export { VERSION } from "./version.ts";

/** Connects to the broker of this user, starting one if there is none. Blocks until it has answered.
 *  With `wake: true` the *Async methods work on this connection. @throws FailureError "no-broker", "denied" */
export function connect(options: ConnectOptions): BrokerLink {
  return BrokerLink.connect(options);
}
