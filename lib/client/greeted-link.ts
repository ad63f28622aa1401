/**
 * A connection that has said hello, and its manager: the object of which everything else is asked. A broker may be older
 * than we are; what it does not know is not asked of it.
 */
import { constants, type OwnedFd, open } from "../../ffi/mod.ts";
import { FailureError } from "../errors.ts";
import type { ClientConnection } from "../protocol/client-connection.ts";
import type { AnyEvent } from "../protocol/messages.ts";
import type { ObjectId } from "../util/brand.ts";
import { DISPLAY_ID } from "../wire/object-map.ts";
import { ANSWER_MS, BrokerSocket, type Destroyable } from "./broker-socket.ts";
import { type ConnectOptions, isHandedDown } from "./connect.ts";
import { type GrantSpec, rightsOf } from "./grant.ts";

/** Of the one global. */
const MANAGER_NAME = 1;

type Request = Parameters<ClientConnection["request"]>[2];

export abstract class GreetedLink extends BrokerSocket {
  #registry: ObjectId = DISPLAY_ID;
  #manager: ObjectId = DISPLAY_ID;
  /** The same manager as what this broker calls it in its newest version, once that is asked for something. */
  #newestManager: ObjectId | undefined;
  #managerVersion = 1;
  /** The broker's version and the largest ring it grants, from its welcome. */
  welcome: { readonly version: string; readonly uid: number; readonly maxCapacity: number } | undefined;

  /** Rights that this connection has lost, oldest first; the caller may empty it. */
  readonly revoked: GrantSpec[] = [];

  protected override adopt(fd: OwnedFd): void {
    super.adopt(fd);
    this.welcome = undefined;
    this.#newestManager = undefined;
    this.#managerVersion = 1;
  }

  /** Says hello on a fresh connection. @returns false when the broker ended meanwhile (an idle exit, say)
   *  @throws FailureError "no-broker" when it is there and does not answer */
  hello(options: ConnectOptions): boolean {
    this.greet(options);
    const outcome = this.wait(() => this.welcome !== undefined, ANSWER_MS);
    if (outcome !== "timeout") return outcome === "done";
    throw new FailureError("no-broker", "Cannot use the broker: it is there and does not answer; end it and try again");
  }

  /** Sends hello; the answer sets `welcome`. What every broker understands is said before it has told its version, so that
   *  nobody waits for that. */
  protected greet(options: ConnectOptions): void {
    this.isShared = isHandedDown(options.env);
    const registry = this.connection.newObject("wl_registry");
    this.connection.request(DISPLAY_ID, "wl_display", { kind: "get_registry", registry });
    this.#registry = registry;
    this.sinks.set(registry, ({ event }) => {
      if (event.kind === "global" && event.name === MANAGER_NAME) this.#managerVersion = event.version;
    });
    this.#manager = this.#bindManager(1);
    this.sinks.set(this.#manager, ({ event }) => {
      if (event.kind === "revoked") this.revoked.push({ rights: rightsOf(event.rights), name: event.name });
      if (event.kind !== "welcome") return;
      const { version, uid, maxCapacity } = event;
      this.welcome = { version, uid, maxCapacity };
    });
    const doorbell = this.makeDoorbell(options);
    this.connection.request(this.#manager, "shmlink_manager_v1", {
      kind: "hello",
      name: options.name.slice(0, 64),
      doorbell,
    });
    this.connection.flush();
  }

  #bindManager(version: number): ObjectId {
    const id = this.connection.newObject("shmlink_manager_v1");
    const bind = { kind: "bind", name: MANAGER_NAME, interface: "shmlink_manager_v1", version, id } as const;
    this.connection.request(this.#registry, "wl_registry", bind);
    return id;
  }

  /** The descriptor for hello: no socket, so no doorbell. */
  protected makeDoorbell(_options: ConnectOptions): OwnedFd {
    return open("/dev/null", constants.O_RDONLY);
  }

  /** Does what one broker is asked for. A connection that comes back does it once more, if the broker ended over it. */
  protected ask<T>(act: () => T): T {
    return act();
  }

  /** Queues a request of the manager. */
  request(request: Request): void {
    this.connection.request(this.#manager, "shmlink_manager_v1", request as never);
  }

  /** Queues a request of the manager that came with version 2. @throws FailureError "unsupported" by an older broker */
  requestNew(request: Request, what: string): void {
    if (!this.isBrokerNew)
      throw new FailureError(
        "unsupported",
        `Cannot ${what}: the broker that runs is older; end it, and the next is newer`,
      );
    this.connection.request(this.#newManager, "shmlink_manager_v1", request as never);
  }

  /** Whether the broker knows version 2. */
  protected get isBrokerNew(): boolean {
    return this.#managerVersion >= 2;
  }

  /** Queues a request whose object is to be of the broker's newest version. */
  protected requestNewest(request: Request): void {
    const manager = this.isBrokerNew ? this.#newManager : this.#manager;
    this.connection.request(manager, "shmlink_manager_v1", request as never);
  }

  get #newManager(): ObjectId {
    if (this.#newestManager !== undefined) return this.#newestManager;
    const id = this.#bindManager(2);
    this.sinks.set(id, (message) => this.managerSaid(message));
    this.#newestManager = id;
    return id;
  }

  /** An event of the manager in its newest version. */
  protected managerSaid(_message: AnyEvent<OwnedFd>): void {}

  /** Waits until the broker has handled everything that was sent so far. */
  sync(): void {
    this.answer(this.requestSync(), "the broker to catch up", true);
  }

  /** forget(), and yet what is still on its way comes, and then `onGone`: the broker has let go of it, too. */
  protected leave(id: ObjectId, name: Destroyable, generation: number, onGone: () => void): void {
    if (generation !== this.generation || this.ended) return;
    this.connection.request(id, name, { kind: "destroy" }, () => {
      this.sinks.delete(id);
      onGone();
    });
    this.requestSync(); // without being asked it may say later that an object is gone
  }

  /** sync() without waiting. @returns whether the broker has caught up by now */
  requestSync(): () => boolean {
    const callback = this.connection.newObject("wl_callback");
    let done = false;
    this.sinks.set(callback, () => {
      done = true;
      this.sinks.delete(callback);
    });
    this.connection.request(DISPLAY_ID, "wl_display", { kind: "sync", callback });
    this.connection.flush();
    return () => done;
  }
}
