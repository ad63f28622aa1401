/**
 * A client's end of a connection: typed requests out, typed events in. It trusts the broker with its time but not with
 * its memory: what does not parse ends the connection. Waiting for an answer is the owner's business.
 */
import type { OwnedFd } from "../../ffi/mod.ts";
import { ProtocolError } from "../errors.ts";
import type { Transport } from "../transport/transport.ts";
import type { ObjectId } from "../util/brand.ts";
import { isClientId } from "../wire/object-map.ts";
import type { Arg, RawMessage } from "../wire/types.ts";
import { Core, type Entry, newEntry, type Receiver } from "./core.ts";
import type { MessageDescription } from "./description.ts";
import { type AnyEvent, closeFds, opcodeOf, toArgs, toTyped } from "./messages.ts";
import { type Events, INTERFACES, type InterfaceName, type Requests } from "./shmlink-v1.gen.ts";

export class ClientConnection implements Disposable {
  readonly #core: Core;
  #onEvent: (message: AnyEvent<OwnedFd>) => void = () => undefined;
  /** Hears of an event to an object that we have destroyed; its descriptors are closed by then. */
  onDropped: ((message: AnyEvent<OwnedFd>) => void) | undefined;
  readonly #receiver: Receiver = {
    deliver: (message, entry, description) => this.#deliver(message, entry, description, this.#onEvent),
    dropped: (message, entry, created) => {
      for (const id of created) this.#refuse(id);
      const description = INTERFACES[entry.interface].events[message.opcode];
      if (description === undefined || this.onDropped === undefined) return;
      const typed = { object: message.object, interface: entry.interface, event: toTyped(description, message.args) };
      this.onDropped(typed as AnyEvent<OwnedFd>); // all three come from one table
    },
  };

  /** Takes the transport and closes it in the end. */
  constructor(transport: Transport) {
    this.#core = new Core(transport, { side: "client", incoming: "events", maxObjects: Number.POSITIVE_INFINITY });
  }

  get queuedBytes(): number {
    return this.#core.transport.queuedBytes;
  }

  /** See Transport.starved. */
  get starved(): boolean {
    return this.#core.transport.starved;
  }

  /** Live objects, wl_display among them. */
  get objectCount(): number {
    return this.#core.objects.size;
  }

  /** An id for an object that the next request will create. */
  newObject(interfaceName: InterfaceName): ObjectId {
    return this.#core.objects.allocate(newEntry(interfaceName, INTERFACES[interfaceName].version));
  }

  /**
   * Queues a request and takes its descriptors. New ids in it must come from newObject(). After a destructor the
   * object is gone: events that are still on their way to it are dropped.
   * @param onGone  with a destructor: events go on coming until the broker has let go of the object, and then this is
   *   called; a second destructor, which the broker does not hear of, is the end of both
   * @throws TypeError when the object does not exist or has another interface
   * @throws RangeError when it does not fit in a message; ids of objects that it should have created are free again
   */
  request<N extends InterfaceName>(
    object: ObjectId,
    interfaceName: N,
    request: Requests<OwnedFd>[N],
    onGone?: () => void,
  ): void {
    const known = this.#core.objects.get(object);
    const { requests } = known?.interface === interfaceName ? known.about : INTERFACES[interfaceName];
    const opcode = opcodeOf(requests, request.kind);
    const description = requests[opcode];
    const args = description === undefined ? [] : toArgs<OwnedFd>(description, request);
    const entry = this.#checkObject(known, object, interfaceName, args);
    const destructor = description?.destructor === true;
    if (entry.deleted || entry.onGone !== undefined) closeFds({ args });
    else this.#write(object, opcode, args);
    if (!destructor) return;
    if (onGone === undefined || entry.deleted) this.#letGo(object, entry);
    if (entry.deleted) onGone?.();
    else entry.onGone = onGone;
  }

  #checkObject(
    entry: Entry | undefined,
    object: ObjectId,
    interfaceName: InterfaceName,
    args: readonly Arg<OwnedFd>[],
  ): Entry {
    if (entry?.interface === interfaceName) return entry;
    closeFds({ args });
    throw new TypeError(
      `Cannot use object ${object} as ${interfaceName}: it is ${entry?.interface ?? "gone or never was"}`,
    );
  }

  #write(object: ObjectId, opcode: number, args: readonly Arg<OwnedFd>[]): void {
    try {
      this.#core.write(object, opcode, args);
    } catch (error) {
      for (const arg of args)
        if (arg.kind === "new_id" || arg.kind === "untyped_new_id") this.#core.objects.release(arg.value);
      throw error;
    }
    for (const arg of args) if (arg.kind === "untyped_new_id") this.#setVersion(arg.value, arg.version);
  }

  #setVersion(object: ObjectId, version: number): void {
    const entry = this.#core.objects.get(object);
    if (entry !== undefined) entry.version = version;
  }

  /** Our own ids wait for delete_id; the broker's until it uses them again, because it hears of the end later. */
  #letGo(object: ObjectId, entry: Entry): void {
    if (entry.deleted) this.#core.objects.release(object);
    else this.#core.objects.bury(object);
  }

  /**
   * Reads all that is there and hands each event to `onEvent`, in order; wl_display's are handled here. Objects that an
   * event creates exist when it is called; after a destructor event the object is gone. Events for objects that we
   * have destroyed are dropped with their descriptors, and objects that such an event creates are destroyed at once.
   *
   * `onEvent` owns the descriptors of its event. When it throws, those that are still open are closed.
   * @param budgetBytes  after which it returns although there is more to be received; 0 for what has been received already.
   *   Without it nothing is left: whoever is woken by a doorbell is not woken again
   * @param wait  sleeps until something comes, see Transport.receive()
   * @throws ProtocolError with the broker's message for wl_display.error, or for an event that does not parse
   */
  pump(
    onEvent: (message: AnyEvent<OwnedFd>) => void,
    budgetBytes: number = Number.POSITIVE_INFINITY,
    wait = false,
  ): "open" | "ended" {
    this.#onEvent = onEvent;
    const state = this.#core.read(this.#receiver, budgetBytes, Number.POSITIVE_INFINITY, wait);
    return state === "ended" ? "ended" : "open"; // without a limit of messages there is never more
  }

  #deliver(
    message: RawMessage<OwnedFd>,
    entry: Entry,
    description: MessageDescription,
    onEvent: (message: AnyEvent<OwnedFd>) => void,
  ): void {
    const { object } = message;
    const typed = { object, interface: entry.interface, event: toTyped(description, message.args) };
    const event = typed as AnyEvent<OwnedFd>; // all three come from one table
    if (event.interface === "wl_display") return this.#handleDisplay(event.event);
    onEvent(event);
    if (!description.destructor || this.#core.objects.get(object) !== entry) return;
    if (isClientId(object)) this.#letGo(object, entry);
    else this.#core.objects.release(object);
  }

  #handleDisplay(event: Events<OwnedFd>["wl_display"]): void {
    if (event.kind === "error") throw this.#brokerError(event.objectId, event.code, event.message);
    const id = event.id as ObjectId; // a key of the map, or it is not released
    const entry = this.#core.objects.get(id);
    if (entry !== undefined) entry.deleted = true;
    if (entry?.onGone !== undefined || this.#core.objects.getZombie(id) !== undefined) this.#core.objects.release(id);
    entry?.onGone?.();
  }

  #brokerError(objectId: ObjectId, wireCode: number, message: string): ProtocolError {
    const entry = this.#core.objects.get(objectId) ?? this.#core.objects.getZombie(objectId);
    const where = `${entry?.interface ?? "object"}@${objectId}, error ${wireCode}`;
    return new ProtocolError(`The broker ended the connection: ${message} (${where})`, { objectId, wireCode });
  }

  /** Tells the broker that we do not want an object which it made for one that we had destroyed. */
  #refuse(object: ObjectId): void {
    const name = this.#core.objects.getZombie(object)?.interface;
    if (name === undefined) return;
    const opcode = INTERFACES[name].requests.findIndex(({ destructor, args }) => destructor && args.length === 0);
    if (opcode >= 0) this.#core.write(object, opcode, []);
  }

  /** Which interface a live object has. */
  interfaceOf(object: ObjectId): InterfaceName | undefined {
    return this.#core.objects.get(object)?.interface;
  }

  /** Sends what is queued, as far as the broker reads. */
  flush(): "done" | "blocked" {
    return this.#core.closed ? "done" : this.#core.transport.flush();
  }

  /** Closes the connection and every descriptor in it. Safe to call twice. */
  close(): void {
    this.#core.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
