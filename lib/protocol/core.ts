/**
 * What both ends of a connection share: transport, reader and object map. It turns bytes into messages for live
 * objects, takes in the objects that messages create, and drops what is meant for objects that are gone.
 */
import type { OwnedFd } from "../../ffi/mod.ts";
import { ProtocolError } from "../errors.ts";
import type { Transport } from "../transport/transport.ts";
import type { ObjectId } from "../util/brand.ts";
import { type Lookup, WireReader } from "../wire/decode.ts";
import { encode } from "../wire/encode.ts";
import { DISPLAY_ID, ObjectMap, type ObjectMapOptions } from "../wire/object-map.ts";
import type { Arg, RawMessage, WireFault } from "../wire/types.ts";
import type { ArgDescription, InterfaceDescription, MessageDescription } from "./description.ts";
import { closeFds } from "./messages.ts";
import { INTERFACES, type InterfaceName, WL_DISPLAY_ERROR } from "./shmlink-v1.gen.ts";

/** What the map holds of an object. */
export type Entry = {
  readonly interface: InterfaceName;
  /** Its messages: looked up once, and asked for with each of them. */
  readonly about: InterfaceDescription;
  version: number;
  /** Whatever the owner of the connection attached. */
  data: unknown;
  /** Client only: the broker has let go of the id already, and we have not yet. */
  deleted: boolean;
  /** Client only: we have let go of it, and go on hearing of it until the broker has, too. */
  onGone: (() => void) | undefined;
};

export type CoreOptions = ObjectMapOptions & {
  readonly incoming: "requests" | "events";
  /** Most live objects; more is the peer's fault. */
  readonly maxObjects: number;
};

/** What happens with messages for live objects and with those for objects that are gone. */
export type Receiver = {
  readonly deliver: (message: RawMessage<OwnedFd>, entry: Entry, description: MessageDescription) => void;
  /** `created` are objects that the message made: gone as well, on our side. The descriptors are closed already. */
  readonly dropped: (message: RawMessage<OwnedFd>, entry: Entry, created: readonly ObjectId[]) => void;
};

const NOTHING: readonly ObjectId[] = [];

export class Core {
  readonly objects: ObjectMap<Entry>;
  readonly transport: Transport;
  readonly #reader = new WireReader<OwnedFd>();
  readonly #options: CoreOptions;
  readonly #isServer: boolean;
  #closed = false;
  #failed = false;
  #messagesLeft = 0;

  constructor(transport: Transport, options: CoreOptions) {
    this.transport = transport;
    this.#options = options;
    this.#isServer = options.incoming === "requests";
    this.objects = new ObjectMap(options);
    this.objects.addDisplay(newEntry("wl_display", 1));
  }

  /** Bytes of messages that were not handed on: they are not whole, or it was not their turn. */
  get waitingBytes(): number {
    return this.#reader.waitingBytes;
  }

  /** Descriptors that wait for their messages. */
  get waitingFds(): readonly OwnedFd[] {
    return this.#reader.waitingFds;
  }

  get waitingFdCount(): number {
    return this.#reader.waitingFdCount;
  }

  /** Of the last read(): how many messages it could still have handed on; below 0 when the last was a large one. */
  get messagesLeft(): number {
    return this.#messagesLeft;
  }

  /** The message at hand was as much work as so many more of the usual kind. */
  spendMessages(count: number): void {
    this.#messagesLeft -= count;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Reads what is there and hands it on, message by message; stops early when the receiver closes the connection.
   * @param budgetBytes  after which it returns although there is more to be received
   * @param maxMessages  after which it returns "more" although there are some that have been received already
   * @param wait  sleeps until something comes, see Transport.receive()
   * @throws ProtocolError for the peer's fault; after that nothing is read any more. What else the receiver throws
   *   passes through, and the next call goes on with the next message
   */
  read(
    receiver: Receiver,
    budgetBytes: number,
    maxMessages: number = Number.POSITIVE_INFINITY,
    wait = false,
  ): "open" | "more" | "ended" {
    try {
      this.#messagesLeft = maxMessages;
      return this.#read(receiver, budgetBytes, wait);
    } catch (error) {
      if (error instanceof ProtocolError) {
        this.#failed = true;
        this.#closeWaiting();
      }
      throw error;
    }
  }

  #read(receiver: Receiver, budgetBytes: number, wait: boolean): "open" | "more" | "ended" {
    if (!this.#decode(receiver)) return "more"; // what was left the last time
    for (let left = budgetBytes; left > 0 && !this.#closed && !this.#failed; ) {
      const incoming = this.transport.receive(wait && left === budgetBytes);
      if (incoming === null) return "open";
      if (incoming === "end") return "ended";
      left -= incoming.bytes.length;
      this.#reader.push(incoming.bytes, incoming.fds);
      if (!this.#decode(receiver)) return "more";
    }
    return this.#closed || this.#failed ? "ended" : "open";
  }

  /** Queues a message; takes its descriptors, whether it can be sent or not. */
  write(object: ObjectId, opcode: number, args: readonly Arg<OwnedFd>[]): void {
    const message: RawMessage<OwnedFd> = { kind: "message", object, opcode, args };
    try {
      const { bytes, fds } = encode(message);
      this.transport.queue(bytes, fds);
    } catch (error) {
      closeFds(message);
      throw error;
    }
  }

  /** Closes the transport and every descriptor that was not delivered. Safe to call twice. */
  close(): void {
    this.#closed = true;
    this.#closeWaiting();
    this.transport.close();
  }

  #closeWaiting(): void {
    for (const fd of this.#reader.drainFds()) fd.close();
  }

  /** @returns false when there may be more, and enough was read for now */
  #decode(receiver: Receiver): boolean {
    while (!this.#closed && !this.#failed) {
      if (this.#messagesLeft <= 0) return false;
      const message = this.#reader.next(this.#lookup);
      if (message === undefined) return true;
      if (message.kind === "fault") throw this.#faultError(message);
      this.#messagesLeft -= 1;
      this.#handle(message, receiver);
    }
    return true;
  }

  /** A message's descriptors go to the receiver; when it throws, those that it has not taken over are closed. */
  #handle(message: RawMessage<OwnedFd>, receiver: Receiver): void {
    try {
      const live = this.objects.get(message.object);
      const entry = live ?? this.objects.getZombie(message.object);
      const description = entry && this.#messages(entry)[message.opcode];
      if (entry === undefined || description === undefined) throw new TypeError("A decoded message has no object");
      const created = this.#adopt(message, entry, description);
      if (live !== undefined) return receiver.deliver(message, live, description);
      closeFds(message);
      for (const id of created) this.objects.bury(id);
      receiver.dropped(message, entry, created);
    } catch (error) {
      closeFds(message);
      throw error;
    }
  }

  /** Puts the objects that a message creates into the map, and checks those it names. */
  #adopt(message: RawMessage<OwnedFd>, parent: Entry, description: MessageDescription): readonly ObjectId[] {
    let created: ObjectId[] | undefined;
    let index = -1;
    for (const arg of message.args) {
      index += 1;
      const spec = description.args[index];
      if (arg.kind === "object" && this.#isServer) this.#checkObject(arg.value, spec);
      if (arg.kind !== "new_id" && arg.kind !== "untyped_new_id") continue;
      this.#insert(arg.value, arg.kind === "new_id" ? childEntry(spec, parent) : boundEntry(arg, message.object));
      if (created === undefined) created = [arg.value];
      else created.push(arg.value);
    }
    return created ?? NOTHING;
  }

  #insert(id: ObjectId, entry: Entry): void {
    if (this.objects.size >= this.#options.maxObjects) {
      throw displayError("no_memory", `Too many objects: ${this.#options.maxObjects} is the most on a connection`);
    }
    const result = this.objects.insert(id, entry);
    if (result === "in-use")
      throw displayError("invalid_method", `Invalid new id ${id} for ${entry.interface}: it is in use`);
    if (result === "wrong-range") {
      throw displayError(
        "invalid_method",
        `Invalid new id ${id} for ${entry.interface}: it is not of the sender's range`,
      );
    }
  }

  #checkObject(id: ObjectId | null, spec: ArgDescription | undefined): void {
    if (id === null) return;
    const found = this.objects.get(id)?.interface;
    if (found !== undefined && (spec?.interface === undefined || spec.interface === found)) return;
    throw displayError(
      "invalid_object",
      `Invalid object ${id} for argument "${spec?.name}": it is ${found ?? "unknown"}`,
    );
  }

  readonly #lookup: Lookup = (object, opcode) => {
    const entry = this.objects.get(object) ?? this.objects.getZombie(object);
    if (entry === undefined) return "unknown-object";
    const message = this.#messages(entry)[opcode];
    return message === undefined || message.since > entry.version ? "unknown-opcode" : message.args;
  };

  #messages(entry: Entry): readonly MessageDescription[] {
    return this.#isServer ? entry.about.requests : entry.about.events;
  }

  #faultError({ reason, object, opcode, detail }: WireFault): ProtocolError {
    const entry = this.objects.get(object) ?? this.objects.getZombie(object);
    const name = entry && this.#messages(entry)[opcode]?.name;
    const which = name === undefined ? `opcode ${opcode}` : `"${name}"`;
    const where = `${entry?.interface ?? "object"}@${object}, ${which}`;
    const code = reason === "unknown-object" ? "invalid_object" : "invalid_method";
    return displayError(code, `Malformed message (${reason}) for ${where}: ${detail}`);
  }
}

type BoundArg = Extract<Arg<OwnedFd>, { kind: "untyped_new_id" }>;

export function newEntry(interfaceName: InterfaceName, version: number): Entry {
  return {
    interface: interfaceName,
    about: INTERFACES[interfaceName],
    version,
    data: undefined,
    deleted: false,
    onGone: undefined,
  };
}

/** An error that is about the connection as a whole, which is how libwayland reports what it finds itself. */
export function displayError(code: keyof typeof WL_DISPLAY_ERROR, message: string): ProtocolError {
  return new ProtocolError(message, { objectId: DISPLAY_ID, wireCode: WL_DISPLAY_ERROR[code] });
}

function childEntry(spec: ArgDescription | undefined, parent: Entry): Entry {
  const name = spec?.interface;
  if (name === undefined || !isInterfaceName(name)) throw new TypeError(`Interface "${name}" is in no table`);
  return newEntry(name, Math.min(parent.version, INTERFACES[name].version));
}

/** libwayland too reports this for the registry, with a code of wl_display's. */
function boundEntry({ interface: name, version }: BoundArg, registry: ObjectId): Entry {
  const where = { objectId: registry, wireCode: WL_DISPLAY_ERROR.invalid_object };
  const shown = JSON.stringify(name.slice(0, 64)); // it goes into logs
  if (!isInterfaceName(name)) throw new ProtocolError(`Cannot bind ${shown}: there is no such interface`, where);
  const newest = INTERFACES[name].version;
  if (version >= 1 && version <= newest) return newEntry(name, version);
  throw new ProtocolError(`Cannot bind version ${version} of ${shown}: there are 1 to ${newest}`, where);
}

function isInterfaceName(name: string): name is InterfaceName {
  return Object.hasOwn(INTERFACES, name);
}
