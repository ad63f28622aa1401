/** What a session costs its user as long as it lasts: the objects of its connection, and the bytes that wait for it to read. */
import type { ServerConnection } from "../../protocol/connection.ts";
import { type BrokerCore, chargeQuota } from "../core.ts";
import type { Owner } from "../records.ts";

export class SessionAccount {
  readonly #core: BrokerCore;
  readonly #owner: Owner;
  readonly #connection: ServerConnection;
  readonly #charged: { objects: number; queuedBytes: number } = { objects: 0, queuedBytes: 0 };

  constructor(core: BrokerCore, owner: Owner, connection: ServerConnection) {
    this.#core = core;
    this.#owner = owner;
    this.#connection = connection;
  }

  /** Charges what has grown since the last time and gives back what has shrunk. @throws FailureError "quota" */
  settle(): void {
    this.#chargeFor("objects", this.#connection.objectCount);
    this.#chargeFor("queuedBytes", this.#connection.queuedBytes);
  }

  #chargeFor(resource: "objects" | "queuedBytes", held: number): void {
    const more = held - this.#charged[resource];
    if (more === 0) return;
    if (more > 0) chargeQuota(this.#core, this.#owner, "go on", { [resource]: more });
    else this.#core.quota.release(this.#owner, { [resource]: -more });
    this.#charged[resource] = held;
  }

  /** Gives all of it back. To be called once. */
  close(): void {
    this.#core.quota.release(this.#owner, this.#charged);
  }
}
