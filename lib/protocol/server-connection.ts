/** The broker's end of a connection: typed requests in, typed events out. Decides nothing; its owner has the policy. */
import type { OwnedFd } from "../../ffi/mod.ts";
import type { Transport } from "../transport/transport.ts";
import type { ObjectId } from "../util/brand.ts";
import { DISPLAY_ID, isClientId } from "../wire/object-map.ts";
import type { RawMessage } from "../wire/types.ts";
import { Core, type Entry, newEntry, type Receiver } from "./core.ts";
import type { MessageDescription } from "./description.ts";
import { type AnyRequest, closeFds, opcodeOf, toArgs, toTyped } from "./messages.ts";
import { type Events, INTERFACES, type InterfaceName } from "./shmlink-v1.gen.ts";

/** What one pump() reads at most, so that a peer that never stops sending does not keep the others waiting. */
const BUDGET_BYTES = 1 << 16;
/** A peer's objects cost our memory. Quotas speak of channels and services; this is about everything else. */
const MAX_OBJECTS = 1 << 16;
/** Objects that we let go of while the peer may still speak to them. */
const MAX_ZOMBIES = 1 << 12;
/** Of an error's message in UTF-16 units: three bytes each at most, so it fits in a message whatever it quotes. */
const MAX_ERROR_LENGTH = 1024;

export class ServerConnection implements Disposable {
  readonly #core: Core;
  #onRequest: (message: AnyRequest<OwnedFd>) => void = () => undefined;
  readonly #receiver: Receiver = {
    deliver: (message, entry, description) => this.#deliver(message, entry, description, this.#onRequest),
    dropped: (message, entry) => this.#dropped(message, entry),
  };

  /** Takes the transport and closes it in the end. */
  constructor(transport: Transport) {
    const limits = { maxObjects: MAX_OBJECTS, maxZombies: MAX_ZOMBIES };
    this.#core = new Core(transport, { side: "server", incoming: "requests", ...limits });
  }

  get queuedBytes(): number {
    return this.#core.transport.queuedBytes;
  }

  /** Descriptors that flush() has still to send. */
  get queuedFds(): number {
    return this.#core.transport.queuedFds;
  }

  /** See Transport.unreadFds(). */
  unreadFds(few: number): number {
    return this.#core.transport.unreadFds(few);
  }

  /** Whether more has come than messages were handed on. */
  get isHalfRead(): boolean {
    return this.#core.waitingBytes > 0 || this.#core.waitingFdCount > 0;
  }

  /** Descriptors that have come, and their messages have not. */
  get waitingFdCount(): number {
    return this.#core.waitingFdCount;
  }

  /** They stay the connection's. */
  get waitingFds(): readonly OwnedFd[] {
    return this.#core.waitingFds;
  }

  /** See Transport.starved. */
  get starved(): boolean {
    return this.#core.transport.starved;
  }

  /** Live objects, wl_display among them. */
  get objectCount(): number {
    return this.#core.objects.size;
  }

  /**
   * Reads a bounded amount of what is there and hands each request to `onRequest`, in order. Objects that a request
   * creates exist when it is called; after a destructor the object is freed and the client told (delete_id).
   * A bind is checked against the known interfaces only: whether its global exists is the owner's question.
   *
   * `onRequest` owns the descriptors of its request. When it throws, those that are still open are closed, so it must
   * not have passed one on. It may dispose the connection: nothing more is delivered then.
   * @param maxMessages  after so many it returns "more", and has to be called again although nothing new may come
   * @param budgetBytes  after which nothing more is received; 1 for one recvmsg(2), where epoll(7) tells of the rest
   * @throws ProtocolError for the peer's fault, with what sendError() needs; after that pump() only says "ended"
   */
  pump(
    onRequest: (message: AnyRequest<OwnedFd>) => void,
    maxMessages: number = Number.POSITIVE_INFINITY,
    budgetBytes: number = BUDGET_BYTES,
  ): "open" | "more" | "ended" {
    this.#onRequest = onRequest;
    return this.#core.read(this.#receiver, budgetBytes, maxMessages);
  }

  /** For onRequest: this one counts as so many more. */
  spendMessages(count: number): void {
    this.#core.spendMessages(count);
  }

  /** How many requests of its maxMessages the last pump() did not use; below 0 when the last counted as several. */
  get messagesLeft(): number {
    return this.#core.messagesLeft;
  }

  #deliver(
    message: RawMessage<OwnedFd>,
    entry: Entry,
    description: MessageDescription,
    onRequest: (message: AnyRequest<OwnedFd>) => void,
  ): void {
    const { object } = message;
    const request = toTyped(description, message.args);
    onRequest({ object, interface: entry.interface, request } as AnyRequest<OwnedFd>); // all three come from one table
    if (!description.destructor || this.#core.closed) return;
    if (this.#core.objects.get(object) === entry) this.#free(object);
    else if (this.#core.objects.getZombie(object) === entry) this.#core.objects.release(object);
  }

  /** The client has let go of what we had destroyed on our own: no message can name it any more. */
  #dropped({ object, opcode }: RawMessage<OwnedFd>, entry: Entry): void {
    if (INTERFACES[entry.interface].requests[opcode]?.destructor === true) this.#core.objects.release(object);
  }

  /**
   * Queues an event and takes its descriptors. An event to an object that is gone is dropped, its descriptors closed:
   * the client may have destroyed it a moment ago. A new_id in it must come from createServerObject().
   * @throws RangeError when it does not fit in a message, TypeError for another interface than the object's
   * @throws OverflowError when the client does not read
   */
  send<N extends InterfaceName>(object: ObjectId, interfaceName: N, event: Events<OwnedFd>[N]): void {
    const entry = this.#core.objects.get(object);
    const { events } = entry?.interface === interfaceName ? entry.about : INTERFACES[interfaceName];
    const opcode = opcodeOf(events, event.kind);
    const description = events[opcode];
    const args = description === undefined ? [] : toArgs<OwnedFd>(description, event);
    if (entry === undefined || this.#core.closed) return closeFds({ args });
    if (entry.interface !== interfaceName) {
      closeFds({ args });
      throw new TypeError(
        `Cannot send ${interfaceName}.${event.kind} from object ${object}: it is a ${entry.interface}`,
      );
    }
    this.#core.write(object, opcode, args);
    if (description?.destructor === true) this.destroyObject(object);
  }

  /** Makes an object that an event then introduces to the client.
   *  @param parent  the object whose event that is: the new one has its version at most */
  createServerObject(interfaceName: InterfaceName, parent?: ObjectId): ObjectId {
    const newest = INTERFACES[interfaceName].version;
    const version = parent === undefined ? newest : Math.min(newest, this.versionOf(parent));
    return this.#core.objects.allocate(newEntry(interfaceName, version));
  }

  /** The version that the client asked for; 0 for an object that is gone. */
  versionOf(object: ObjectId): number {
    return this.#core.objects.get(object)?.version ?? 0;
  }

  /**
   * Destroys an object from our side. Requests that are under way to it are dropped, not an error. The client learns
   * of it by delete_id if it made the object; else the id is not used again until the client destroys it too.
   */
  destroyObject(object: ObjectId): void {
    const entry = this.#core.objects.get(object);
    if (entry === undefined) return;
    if (INTERFACES[entry.interface].requests.length === 0) return this.#free(object);
    this.#core.objects.bury(object);
    this.#sayDeleted(object);
  }

  /** Nothing can come for this object any more. */
  #free(object: ObjectId): void {
    this.#core.objects.release(object);
    this.#sayDeleted(object);
  }

  #sayDeleted(object: ObjectId): void {
    if (isClientId(object)) this.send(DISPLAY_ID, "wl_display", { kind: "delete_id", id: object });
  }

  /** Queues wl_display.error. The caller then flushes and disposes: the client must not expect anything more. */
  sendError(object: ObjectId, code: number, message: string): void {
    const text = message.replaceAll("\0", "\ufffd").slice(0, MAX_ERROR_LENGTH);
    this.send(DISPLAY_ID, "wl_display", { kind: "error", objectId: object, code, message: text });
  }

  /** Which interface a live object has. */
  interfaceOf(object: ObjectId): InterfaceName | undefined {
    return this.#core.objects.get(object)?.interface;
  }

  /** Attaches anything to a live object; it goes when the object goes. @throws TypeError when there is none */
  setData(object: ObjectId, data: unknown): void {
    const entry = this.#core.objects.get(object);
    if (entry === undefined) throw new TypeError(`Cannot attach data to object ${object}: it does not exist`);
    entry.data = data;
  }

  getData(object: ObjectId): unknown {
    return this.#core.objects.get(object)?.data;
  }

  /** Sends what is queued, as far as the client reads. */
  flush(): "done" | "blocked" {
    return this.#core.closed ? "done" : this.#core.transport.flush();
  }

  /** Closes the connection and every descriptor in it. Safe to call twice. */
  [Symbol.dispose](): void {
    this.#core.close();
  }
}
