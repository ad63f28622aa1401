/**
 * Whether a process that a peer names is its own: itself, or one that descends from it. A supervisor registers listeners
 * for the programs under it; nobody may say that somebody else's process listens.
 *
 * A number is a number of the peer's pid namespace. One that lives in a namespace within ours, in a container, is looked
 * for among the peer's descendants by the number that it has there.
 *
 * Who is reparented stays a descendant of a supervisor that is a child subreaper (PR_SET_CHILD_SUBREAPER).
 */
import { readdirSync, readFileSync } from "node:fs";
import { throwIfExhausted } from "../transport/proc-failure.ts";

/** "unknown": nothing can be said, for the process, or the peer, has ended or is hidden from us. `pid` is ours. */
export type Judgement =
  | { readonly kind: "own"; readonly pid: number }
  | { readonly kind: "foreign"; readonly why: string }
  | { readonly kind: "unknown" };

const UNKNOWN: Judgement = { kind: "unknown" };
/** How often to begin again when a process on the way up has ended meanwhile. */
const ATTEMPTS = 3;
/** From a process up to its supervisor; who has more of them is told nothing, and nobody waits for that. */
const MAX_GENERATIONS = 256;

/** What /proc says of a process. */
type Status = {
  readonly parent: number;
  /** Effective, as SO_PEERCRED tells it. */
  readonly uid: number;
  /** Its numbers, from our namespace to its own. */
  readonly numbers: readonly number[];
};

/** @param claimed  as the peer knows it  @throws SyscallError EMFILE, ENFILE: then nobody has looked */
export function judgeClaim(peer: { readonly pid: number; readonly uid: number }, claimed: number): Judgement {
  const peerStatus = readStatus(peer.pid);
  if (peerStatus === undefined) return UNKNOWN;
  const depth = peerStatus.numbers.length;
  if (peerStatus.numbers[depth - 1] === claimed) return { kind: "own", pid: peer.pid };
  return depth > 1 ? findWithin(peer.pid, depth, claimed) : judge(peer, claimed);
}

function judge(peer: { readonly pid: number; readonly uid: number }, claimed: number): Judgement {
  const status = readStatus(claimed);
  if (status === undefined) return UNKNOWN;
  const descends = isDescendant(claimed, peer.pid);
  if (descends === undefined) return UNKNOWN;
  if (!descends) return { kind: "foreign", why: `it does not descend from process ${peer.pid}, the client` };
  // What root has started may have given up its rights since.
  if (status.uid === peer.uid || peer.uid === 0) return { kind: "own", pid: claimed };
  return { kind: "foreign", why: `it is user ${status.uid}'s, the client is user ${peer.uid}'s` };
}

/** The users of a container are not the peer's user outside of it, so only descent counts there. */
function findWithin(peer: number, depth: number, claimed: number): Judgement {
  for (const name of listProcesses()) {
    const pid = Number(name);
    const numbers = Number.isInteger(pid) ? readStatus(pid)?.numbers : undefined;
    if (numbers === undefined || numbers[depth - 1] !== claimed) continue;
    if (isDescendant(pid, peer) === true) return { kind: "own", pid };
  }
  return UNKNOWN;
}

/** @returns undefined when a process on the way keeps disappearing, or there are too many */
function isDescendant(pid: number, ancestor: number): boolean | undefined {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    let at: number | undefined = pid;
    for (let left = MAX_GENERATIONS; at !== undefined && at > 1 && at !== ancestor; left--) {
      if (left === 0) return undefined;
      at = readStatus(at)?.parent;
    }
    if (at !== undefined) return at === ancestor;
  }
  return undefined;
}

function listProcesses(): string[] {
  try {
    return readdirSync("/proc");
  } catch (error) {
    throwIfExhausted(error, "/proc");
    return [];
  }
}

function readStatus(pid: number): Status | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "latin1");
    const words = (key: string): number[] =>
      (new RegExp(`^${key}:\\s*(.*)$`, "m").exec(status)?.[1] ?? "").split(/\s+/).map(Number);
    const [parent = 0] = words("PPid");
    return { parent, uid: words("Uid")[1] ?? -1, numbers: words("NSpid") };
  } catch (error) {
    throwIfExhausted(error, `/proc/${pid}/status`);
    return undefined; // ended, or hidden by hidepid=
  }
}
