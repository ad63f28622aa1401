/** What a peer is told: sent once per turn of the reactor, long lists as fast as the peer reads, its doorbell rung for it. */
import type { OwnedFd } from "../../../ffi/mod.ts";
import type { ServerConnection } from "../../protocol/connection.ts";
import type { Reactor } from "../../transport/reactor.ts";
import { MAX_MESSAGE_BYTES } from "../../wire/types.ts";
import { PeerDoorbell } from "../peer-doorbell.ts";
import type { SocketWatch } from "./socket-watch.ts";

/** A listing pauses above this much unsent output, so that a slow reader costs no memory. With the entry that comes last it
 *  is no more than an empty queue keeps room for, and than goes in one sendmsg(2). */
const LISTING_HIGH_BYTES: number = (1 << 16) - MAX_MESSAGE_BYTES;
/** How long to wait when this user has too many descriptors in flight (ETOOMANYREFS). */
const STARVED_MS = 10;

/** Sends some of its entries. "later" when it does not know yet which there are: touch() is called then. */
export type Listing = () => "more" | "done" | "later";

export type OutputOptions = {
  readonly connection: ServerConnection;
  readonly reactor: Reactor;
  readonly watch: SocketWatch;
  /** There is something to send: flush() is to be called at the end of the turn. */
  readonly touched: () => void;
};

export class Output {
  readonly #options: OutputOptions;
  readonly #listings: Listing[] = [];
  #doorbell: PeerDoorbell | undefined;
  #isDirty = false;
  #isClosed = false;

  constructor(options: OutputOptions) {
    this.#options = options;
  }

  /** Whether there is something to send in this turn. */
  get isDirty(): boolean {
    return this.#isDirty;
  }

  /** Descriptors that wait until the peer reads. */
  get queuedFds(): number {
    return this.#options.connection.queuedFds;
  }

  /** With those that were sent already, see Transport.unreadFds(). */
  unreadFds(few: number): number {
    return this.#options.connection.unreadFds(few);
  }

  /** Bytes that wait until the peer reads. */
  get queuedBytes(): number {
    return this.#options.connection.queuedBytes;
  }

  get waitingListings(): number {
    return this.#listings.length;
  }

  /** @param fd  one that can be rung; taken */
  setDoorbell(fd: OwnedFd): void {
    this.#doorbell = new PeerDoorbell(fd);
  }

  /** Sends a long list as fast as the peer reads it. */
  addListing(listing: Listing): void {
    this.#listings.push(listing);
    this.touch();
  }

  touch(): void {
    if (this.#isClosed || this.#isDirty) return;
    this.#isDirty = true;
    this.#options.touched();
  }

  /** Sends what is queued, as far as the peer reads. @throws SyscallError */
  flush(): void {
    this.#isDirty = false;
    const { connection } = this.#options;
    let result = connection.flush();
    for (let listing = this.#listings[0]; listing !== undefined && result === "done"; listing = this.#listings[0]) {
      const said = this.#sendFrom(listing);
      result = connection.flush();
      if (said === "later") break;
    }
    this.#watchOutput(result === "blocked");
  }

  /** As much as there is room for. */
  #sendFrom(listing: Listing): ReturnType<Listing> {
    const { connection } = this.#options;
    let said: ReturnType<Listing> = "more";
    while (said === "more" && connection.queuedBytes < LISTING_HIGH_BYTES && !this.#isClosed) said = listing();
    if (said === "done") this.#listings.shift();
    return said;
  }

  /** A full socket is waited for; too many descriptors in flight leave it writable, so that is tried again later. */
  #watchOutput(isWaiting: boolean): void {
    if (this.#isClosed) return;
    const { connection, reactor, watch } = this.#options;
    const isStarved = isWaiting && connection.starved;
    if (isStarved) reactor.setTimer(STARVED_MS, () => this.touch());
    watch.isFull = isWaiting && !isStarved;
    watch.apply();
  }

  /** Says that something was sent. */
  ring(): void {
    if (this.#doorbell?.ring() === false) this.#dropDoorbell();
  }

  #dropDoorbell(): void {
    this.#doorbell?.[Symbol.dispose]();
    this.#doorbell = undefined;
  }

  /** Nothing is sent any more. */
  close(): void {
    this.#isClosed = true;
    this.#listings.length = 0;
    this.#dropDoorbell();
  }
}

/** One that nobody is to hear: closes its descriptors. */
export function dropEvent(event: object): void {
  for (const value of Object.values(event)) if (isOwnedFd(value)) value.close();
}

function isOwnedFd(value: unknown): value is OwnedFd {
  return typeof value === "object" && value !== null && "take" in value;
}
