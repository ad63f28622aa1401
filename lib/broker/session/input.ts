/** What a peer asks, read as fast as its user's rate and the others' turns leave: a few requests, then everybody else. */
import type { OwnedFd } from "../../../ffi/mod.ts";
import { ProtocolError } from "../../errors.ts";
import type { AnyRequest, ServerConnection } from "../../protocol/connection.ts";
import type { Reactor } from "../../transport/reactor.ts";
import type { BrokerCore } from "../core.ts";
import type { Crowd } from "../crowds.ts";
import type { Share } from "../flood-share.ts";
import type { Owner } from "../records.ts";
import type { SocketWatch } from "./socket-watch.ts";

/** Requests handled before the others have their turn: a client that asks a few things at once is answered at once. */
const SLICE = 32;
/** The same for who has more to say than that, turn after turn: what a flood may add to another's round trip. */
const FLOOD_SLICE = 8;
/** Who sent one request does not cost a second recvmsg(2) that finds nothing: what is left makes the socket readable. */
const ONE_RECEIVE = 1;
/** Of who has left, in requests: what nobody waits for is handled as far as this, and his place is free then. */
const LAST_WORDS = 256;
/** Where nobody watches the socket any more. */
const WHOLE = 1 << 16;

export type InputOptions = {
  readonly core: BrokerCore;
  readonly owner: Owner;
  readonly connection: ServerConnection;
  readonly reactor: Reactor;
  readonly watch: SocketWatch;
  readonly handle: (message: AnyRequest<OwnedFd>) => void;
  /** A few requests have been handled; what they cost is to be accounted for. @throws FailureError "quota" */
  readonly handled: () => void;
  /** Sends what was answered. */
  readonly settle: () => void;
  /** The peer has nothing more to say. */
  readonly ended: () => void;
  readonly failed: (error: unknown) => void;
};

export class Input {
  readonly #options: InputOptions;
  /** There was more to handle than one turn's share. */
  #floods = false;
  /** Those of whom this one is, where it has its turns among those who flood for their sake. */
  #crowd: Crowd | undefined;
  readonly #share: Share;
  #isClosed = false;
  #lastWordsLeft = LAST_WORDS;

  constructor(options: InputOptions) {
    this.#options = options;
    this.#share = options.core.floodTurns.shareOf(options.owner);
  }

  /** The socket has something to read, or will never have again. */
  ready(isHangUp: boolean): void {
    const { watch } = this.#options;
    if (isHangUp && watch.isInputLater) watch.hangUp();
    else this.#read();
  }

  /** Handles a few requests, as many as the user's rate leaves; the others have their turn before the next few. */
  #read(): void {
    const { core, owner, watch, connection, ended, failed } = this.#options;
    if (this.#isClosed || watch.isInputLater) return;
    const { rate, floodTurns } = core;
    const turnMs = floodTurns.nowMs;
    if (!this.#floods && !watch.isHungUp && this.#isCrowded(turnMs)) return this.#readInTurn();
    const nowMs = performance.now();
    const allowed = rate.available(owner, nowMs);
    const isOutOfTurn = !this.#floods;
    const heardMs = isOutOfTurn ? floodTurns.heard(this.#share, turnMs) : 0;
    // Who floods waits until it is worth while, so that the same user's other sessions find something before.
    if (allowed === 0) return this.#readLater(rate.waitMs(owner, this.#floods ? SLICE : 1, nowMs));
    const limit = Math.min(allowed, this.#floods ? FLOOD_SLICE : SLICE);
    try {
      const state = this.#pump(limit);
      const requests = limit - connection.messagesLeft;
      rate.spend(owner, requests, nowMs);
      if (isOutOfTurn) floodTurns.answered(this.#share, requests, heardMs);
      this.#floods = state === "more"; // than a turn's share, or than his rate leaves him
      if (!this.#floods) this.#crowd = undefined;
      if (watch.isHungUp) this.#lastWordsLeft -= requests;
      if (state === "ended" || this.#lastWordsLeft <= 0) return ended();
      this.#settle(state === "more");
    } catch (error) {
      failed(error);
    }
  }

  /** Whether those of whom this one is have asked for so much together that they wait for turns. */
  #isCrowded(nowMs: number): boolean {
    this.#crowd = this.#options.core.floodTurns.crowdOf(this.#share, nowMs);
    this.#floods = this.#crowd !== undefined;
    return this.#floods;
  }

  /** Who has sent a lot may have sent more: messages that bring descriptors are received one by one, so a flood of them would
   *  look like many who have a little to say. */
  #pump(limit: number): ReturnType<ServerConnection["pump"]> {
    const { watch, connection, handle } = this.#options;
    const budgetBytes = watch.isHungUp ? WHOLE : ONE_RECEIVE;
    const state = connection.pump(handle, limit, budgetBytes);
    const { messagesLeft } = connection;
    if (state !== "open" || limit < SLICE || messagesLeft > SLICE / 2) return state;
    return connection.pump(handle, messagesLeft, budgetBytes);
  }

  /** @throws ProtocolError, FailureError "quota" */
  #settle(isMore: boolean): void {
    const { core, owner, watch, connection, handled } = this.#options;
    this.#checkWaitingFds();
    if (connection.isHalfRead) core.deadlines.watch();
    core.closer.checkBacklog(owner);
    handled();
    if (this.#floods && !watch.isHungUp) this.#readInTurn();
    else if (isMore || watch.isHungUp) this.#readLater(0);
  }

  /** Descriptors whose message has not come are held here for as long as the session lives; one of our own connections
   *  among them, its own perhaps, would then live for ever. */
  #checkWaitingFds(): void {
    const { core, connection } = this.#options;
    if (this.#isClosed || connection.waitingFdCount === 0) return;
    if (connection.waitingFds.some((fd) => core.ownSockets.has(fd)))
      throw new ProtocolError("A socket of the broker was sent ahead of a message");
  }

  /** What has been received and not handled does not make the socket readable again, so a timer stands for it. */
  #readLater(delayMs: number): void {
    this.#pause();
    this.#options.reactor.setTimer(delayMs, () => {
      if (this.#floods && !this.#options.watch.isHungUp && !this.#isClosed) this.#readInTurn();
      else this.#readAgain();
    });
  }

  /** The same for who floods. */
  #readInTurn(): void {
    this.#pause();
    this.#options.core.floodTurns.await(this.#share, this.#readAndAnswer, this.#crowd);
  }

  #pause(): void {
    const { watch } = this.#options;
    watch.isInputLater = true;
    watch.apply();
  }

  /** The answers are part of the turn, and of what it took. */
  readonly #readAndAnswer = (): void => {
    this.#readAgain();
    this.#options.settle();
  };

  readonly #readAgain = (): void => {
    const { watch } = this.#options;
    watch.isInputLater = false;
    if (this.#isClosed) return;
    this.#read();
    if (!watch.isInputLater && !this.#isClosed) watch.apply();
  };

  /** Nothing is read any more. */
  close(): void {
    this.#isClosed = true;
  }
}
