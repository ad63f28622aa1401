/**
 * From descriptors to a channel, in the two steps of the protocol: map our own ring while it is still writable, then,
 * when the broker has sealed both, check the peer's and map it for reading.
 */
import {
  addSeals,
  constants,
  fstat,
  type Mapping,
  mapShared,
  type OwnedFd,
  SyscallError,
  setNonBlocking,
} from "../../ffi/mod.ts";
import { ClosedError, FailureError, ProtocolError } from "../errors.ts";
import {
  COLD_HUGE,
  DEFAULT_MAX_PEER_CAPACITY,
  NO_CAPACITY,
  NO_CHANNEL,
  type RingHeader,
  type RingSide,
  ringFileBytes,
} from "../ring/layout.ts";
import { Channel } from "./duplex.ts";
import type { ChannelOptions } from "./end.ts";
import { mapSealedRing, readRingHeader } from "./memfd.ts";
import { checkEndOptions } from "./options.ts";
import { RING_SEALS } from "./seals.ts";

export { Channel, type ReceiveOptions } from "./duplex.ts";
export type {
  ChannelOptions,
  Direction,
  EndOptions,
  SendAsyncOptions,
  SendOptions,
  Trust,
  WhenBehind,
  WhenFull,
} from "./end.ts";
export type { Message } from "./message.ts";

/** Our ring, which we had mapped before we knew of the channel. Its doorbell has to be a non-blocking socket. */
export type MappedRing = RingHeader & { readonly mapping: Mapping };

export class ChannelSetup implements Disposable {
  readonly channelId: number;
  readonly side: RingSide;
  readonly capacity: number;
  #own: Mapping | undefined;
  readonly #doorbell: OwnedFd;

  /**
   * Maps our ring writable and seals it, unless it is already. Takes both, also when it throws; a descriptor is closed once
   * it is mapped. It is ours to seal, because that waits for whoever changes the file.
   * @throws ProtocolError when the file is no ring, SyscallError EPERM when it was sealed already
   */
  constructor(own: OwnedFd | MappedRing, doorbell: OwnedFd) {
    try {
      if (!("mapping" in own)) {
        checkSocket(doorbell);
        setNonBlocking(doorbell, true);
      }
      const { channelId, side, capacity } = "mapping" in own ? own : readRingHeader(own);
      this.channelId = channelId;
      this.side = side;
      this.capacity = capacity;
      this.#doorbell = doorbell;
      this.#own = "mapping" in own ? own.mapping : mapOwn(own, capacity);
    } catch (error) {
      doorbell.close();
      if ("mapping" in own) own.mapping.close();
      throw error;
    } finally {
      if (!("mapping" in own)) own.close();
    }
  }

  /**
   * Checks the peer's ring and makes the channel; this setup is used up then.
   * @param peer  taken, and closed in any case  @throws ProtocolError when it is not sealed or not the other side's ring,
   *   FailureError "refused" when it is larger than options.maxPeerCapacity, TypeError for an option that there is not
   */
  complete(peer: OwnedFd, options: ChannelOptions = {}): Channel {
    try {
      checkEndOptions(options);
      const own = this.#own;
      if (own === undefined) throw new ClosedError("Cannot complete the channel: its setup is closed or was used");
      const hugePageBytes = options.hugePages ? takeHugePages(own) : 0;
      if (options.prefault) populate(own);
      const check = (header: RingHeader): void => {
        this.#checkCounterpart(header);
        checkPeerCapacity(header.capacity, options.maxPeerCapacity);
      };
      const { header, mapping } = mapSealedRing(peer, check, own);
      this.#own = undefined;
      const { channelId, side, capacity: ownCapacity } = this;
      const doorbell = this.#doorbell;
      const parts = {
        channelId,
        side,
        own,
        ownCapacity,
        hugePageBytes,
        peer: mapping,
        peerCapacity: header.capacity,
        doorbell,
      };
      return new Channel(parts, options);
    } finally {
      peer.close();
    }
  }

  /** Gives a channel up that was never completed. Safe to call twice, and after complete(). */
  close(): void {
    if (this.#own === undefined) return;
    this.#own.close();
    this.#own = undefined;
    this.#doorbell.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #checkCounterpart({ channelId, side, capacity }: RingHeader): void {
    if (capacity === NO_CAPACITY && this.capacity === NO_CAPACITY)
      throw new ProtocolError("Cannot use the channel: neither side has a ring");
    if (channelId === NO_CHANNEL) return; // made before; the broker says whose it is
    if (channelId !== this.channelId) {
      throw new ProtocolError(`Cannot use the ring: channel id is "${channelId}", "${this.channelId}" is needed`);
    }
    if (side === this.side) {
      throw new ProtocolError(`Cannot use the ring: side is "${side}", the other side's is needed`);
    }
  }
}

/** @throws FailureError "refused" */
function checkPeerCapacity(capacity: number, most: number = DEFAULT_MAX_PEER_CAPACITY): void {
  if (capacity <= most) return;
  throw new FailureError(
    "refused",
    `Cannot use the channel: the other side's ring has ${capacity} bytes, maxPeerCapacity is ${most}`,
  );
}

function mapOwn(ring: OwnedFd, capacity: number): Mapping {
  const mapping = mapShared(ring, ringFileBytes(capacity), "read-write");
  try {
    addSeals(ring, RING_SEALS);
  } catch (error) {
    mapping.close();
    throw error;
  }
  return mapping;
}

/** @returns how many bytes are in huge pages now; our ring's control page says so too */
function takeHugePages(own: Mapping): number {
  const bytes = own.collapse();
  new Int32Array(own.buffer)[COLD_HUGE] = bytes;
  return bytes;
}

function populate(own: Mapping): void {
  try {
    own.populate();
  } catch (error) {
    if (!(error instanceof SyscallError && error.code === "EINVAL")) throw error;
  }
}

function checkSocket(doorbell: OwnedFd): void {
  if ((fstat(doorbell).mode & constants.S_IFMT) === constants.S_IFSOCK) return;
  throw new ProtocolError(`Cannot use the doorbell: it is no socket`);
}
