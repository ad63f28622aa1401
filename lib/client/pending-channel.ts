/** A channel between its first event and the moment it is whole: map, mapped, peer. Owns what it has so far. */
import type { OwnedFd } from "../../ffi/mod.ts";
import { type Channel, ChannelSetup, type EndOptions } from "../channel/channel.ts";
import { FailureError } from "../errors.ts";
import type { AnyEvent } from "../protocol/messages.ts";
import type { Events } from "../protocol/shmlink-v1.gen.ts";
import type { ObjectId } from "../util/brand.ts";
import type { ChannelLink } from "./channel-link.ts";
import { failureOf } from "./failure.ts";

type OpenEvent = Extract<Events<OwnedFd>["shmlink_channel_v1"], { kind: "open" }>;

export class PendingChannel {
  /** Undefined while the set-up goes on. */
  outcome: Channel | Error | undefined;
  readonly #link: ChannelLink;
  readonly #id: ObjectId;
  readonly #name: string;
  readonly #options: EndOptions;
  readonly #generation: number;
  readonly #learn: (capacity: number) => void;
  /** Has a ring ready for the next channel. */
  #prepareNext: (() => void) | undefined;
  #setup: ChannelSetup | undefined;

  /** @param learn  hears how many bytes our ring has */
  constructor(link: ChannelLink, id: ObjectId, name: string, options: EndOptions, learn: (capacity: number) => void) {
    this.#learn = learn;
    this.#link = link;
    this.#id = id;
    this.#name = name;
    this.#options = options;
    this.#generation = link.generation;
  }

  /** Who has one channel after the other has the next one's ring ready before he needs it: as soon as this one ends. */
  prepareNext(prepare: () => void): void {
    this.#prepareNext = prepare;
  }

  handle(message: AnyEvent<OwnedFd>): void {
    if (message.interface !== "shmlink_channel_v1") return;
    const { event } = message;
    try {
      if (event.kind === "map") this.#map(event.memfd, event.doorbell);
      else if (event.kind === "open") this.#open(event);
      else if (event.kind === "peer") this.#complete(event.memfd, event.pid, event.uid);
      else this.#fail(failureOf(event.code, event.message));
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #map(memfd: OwnedFd, doorbell: OwnedFd): void {
    this.#setup = new ChannelSetup(memfd, doorbell);
    this.#learn(this.#setup.capacity);
    this.#link.confirmMapped(this.#id);
  }

  #open({ channelId, side, serial, memfd, doorbell, pid, uid }: OpenEvent): void {
    const ring = this.#link.spares.claim(serial);
    if (ring === undefined) {
      for (const fd of [memfd, doorbell]) fd.close();
      throw new FailureError("invalid", `Cannot open the channel to "${this.#name}": spare ring ${serial} is not ours`);
    }
    try {
      const { mapping, capacity } = ring;
      this.#setup = new ChannelSetup({ mapping, capacity, channelId, side: side === 1 ? 1 : 0 }, doorbell);
    } catch (error) {
      memfd.close();
      throw error;
    }
    this.#learn(ring.capacity);
    this.#complete(memfd, pid, uid);
  }

  #complete(memfd: OwnedFd, peerPid: number, peerUid: number): void {
    const setup = this.#setup;
    if (setup === undefined) {
      memfd.close();
      throw new FailureError("invalid", `Cannot open the channel to "${this.#name}": "peer" came before "map"`);
    }
    const onClose = (): void => this.#forget();
    this.outcome = setup.complete(memfd, { ...this.#options, peerPid, peerUid, onClose });
    this.#setup = undefined;
  }

  #fail(error: Error): void {
    this.#setup?.[Symbol.dispose]();
    this.#setup = undefined;
    this.#forget();
    this.outcome = error;
  }

  #forget(): void {
    this.#link.forgetChannel(this.#id, this.#generation, this.#prepareNext);
  }

  /** The channel, now the caller's. @throws what the set-up ended with */
  take(): Channel {
    if (this.outcome === undefined) throw new Error("Cannot take a channel that is still being set up");
    if (this.outcome instanceof Error) throw this.outcome;
    return this.outcome;
  }

  /** Gives the set-up up. */
  cancel(): void {
    if (this.outcome === undefined) this.#fail(new FailureError("timeout", `Cannot open "${this.#name}": given up`));
  }
}
