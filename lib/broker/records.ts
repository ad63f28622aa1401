/** What the broker knows of the things that peers made. Plain records; registry.ts keeps them. */
import type { Mapping, OwnedFd } from "../../ffi/mod.ts";
import type { SideStatistics } from "../channel/memfd.ts";
import type { FailureError } from "../errors.ts";
import type { ContextIdentity } from "../policy/types.ts";
import type { ObjectId } from "../util/brand.ts";
import type { Classified } from "./classify.ts";
import type { GrantSet } from "./grants.ts";
import type { Backing } from "./rights.ts";
import type { Session } from "./session.ts";
import type { Spare } from "./spares.ts";

export type ServiceRecord = {
  readonly kind: "service";
  readonly id: number;
  readonly name: string;
  /** Ring towards the dialler, in bytes. */
  readonly capacity: number;
  /** What it wants to do in its channels; directions.ts. */
  readonly directions: number;
  /** The rule that allowed it, for listings; so in the records below. */
  readonly rule: string;
  /** By which its owner has it, likewise. */
  readonly rights: Backing;
  readonly session: Session;
  readonly object: ObjectId;
  accepted: number;
};

/** One end of a channel. `session` and `object` are gone once that end let go of it. */
export type ChannelSide = {
  readonly owner: Owner;
  /** By which it is one; undefined where an older broker did not write it down. */
  rights: Backing | undefined;
  /** Of its ring; 0 for a side that only receives, whose file is the control page. */
  readonly capacity: number;
  /** Our reference to the ring, until the other side has it. */
  memfd: OwnedFd | undefined;
  /** Once it is sealed. */
  stats: { read(): SideStatistics; close(): void } | undefined;
  session: Session | undefined;
  object: ObjectId;
  sealed: boolean;
  /** The ring that its client had made before, and its end of the doorbell, both until it is told of the channel. */
  waiting: { readonly spare: Spare; readonly doorbell: OwnedFd } | undefined;
  /** Another reference to the ring, on its way into the manager's store. */
  copy: OwnedFd | undefined;
};

export type ChannelRecord = {
  readonly kind: "channel";
  readonly id: number;
  /** Name of the service that was dialled. */
  readonly name: string;
  readonly serviceId: number;
  readonly rule: string;
  /** When it was begun, by performance.now(). */
  readonly sinceMs: number;
  /** Dialler first. */
  readonly sides: readonly [ChannelSide, ChannelSide];
  /** Of one that an earlier broker left: forgets the processes that it lives with. */
  unwatch?: (() => void) | undefined;
};

export type ListenerRecord = {
  readonly kind: "listener";
  readonly id: number;
  readonly address: string;
  readonly port: number;
  readonly path: string;
  readonly v6only: boolean;
  readonly noTcp: boolean;
  readonly rule: string;
  readonly rights: Backing;
  readonly owner: Owner;
  /** Read-only view of the supervisor's counters: 64-bit unix, tcp, traps, nanoseconds of traps. */
  readonly counters: Mapping;
  readonly session: Session;
  readonly object: ObjectId;
  readonly fallbacks: Map<string, number>;
};

/** Descriptors that go together. */
export type Bundle = {
  /** Counted from 1 in each offer. */
  readonly number: number;
  readonly fds: OwnedFd[];
  /** What each of them is. */
  readonly about: readonly Classified[];
  /** Everyone who asks gets a copy. */
  readonly keep: boolean;
  /** Who offers it does not want to hear who takes it. */
  readonly quiet: boolean | undefined;
  /** That allowed to pass on what these are; undefined where an older broker did not write it down. */
  readonly rule: string | undefined;
  /** An earlier broker left it. */
  readonly restored?: boolean;
};

export type OfferRecord = {
  readonly kind: "relayed";
  readonly id: number;
  readonly name: string;
  readonly owner: Owner;
  /** What the owner's program calls itself. */
  readonly program: string;
  /** That allowed the name. */
  rule: string | undefined;
  rights: Backing | undefined;
  /** None after another broker made it, until its owner comes back. */
  session: Session | undefined;
  object: ObjectId;
  /** Without a session: forgets the process that it lives with. */
  unwatch?: (() => void) | undefined;
  /** Added, not published yet, and what they are. */
  staged: OwnedFd[];
  stagedAbout: Classified[];
  /** When the first of them was added, by performance.now(). */
  stagedSinceMs: number;
  /** Why the bundle that is being put together cannot be published. */
  refusal?: FailureError | undefined;
  readonly bundles: Bundle[];
  /** The highest number that its owner was told; one above it is of a bundle that nobody may have, or has yet. */
  published: number;
  taken: number;
};

/** Somebody who waits for a bundle. */
export type TakeRecord = {
  readonly kind: "take";
  readonly name: string;
  readonly session: Session;
  readonly object: ObjectId;
};

export type ContextRecord = {
  readonly kind: "context";
  readonly id: number;
  /** "engine/app/instance". */
  readonly name: string;
  readonly identity: ContextIdentity;
  readonly rule: string | undefined;
  readonly owner: Owner;
  readonly listener: OwnedFd;
  readonly closeFd: OwnedFd;
  /** Connections that came through it, ever. */
  accepted: number;
};

/** One that was minted, for as long as it lasts. What it may do, and who minted it, its session's owner says. */
export type ConnectionRecord = {
  readonly kind: "connection";
  readonly id: number;
  /** "connection:17" */
  readonly name: string;
  readonly rule: string;
  readonly session: Session;
  /** The minted connection that it was minted from. */
  readonly mintedFrom: number | undefined;
};

export type AnyRecord = ServiceRecord | ChannelRecord | ListenerRecord | OfferRecord | ContextRecord | ConnectionRecord;

/** The process a record belongs to. */
export type Owner = {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  readonly exe: string;
  readonly cgroup: string;
  /** The context it connected through. */
  readonly context: ContextIdentity | undefined;
  /** What a minted connection may do; undefined for one that is judged by the policy alone. */
  readonly grants?: GrantSet;
};
