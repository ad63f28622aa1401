/** Who is at the other end of a Unix socket, as the kernel knows it. Nothing here is what the peer says of itself. */
import { readFileSync, readlinkSync } from "node:fs";
import {
  type BorrowedFd,
  constants,
  errno,
  type OwnedFd,
  peerCredentials,
  peerGroups,
  peerPidfd,
  poll,
  SyscallError,
} from "../../ffi/mod.ts";
import { throwIfExhausted } from "./proc-failure.ts";

export type PeerIdentity = {
  /** 0 for a process outside our pid namespace. */
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups. */
  readonly groups: readonly number[];
  /** Readable when the process ends; the caller's to close. Null before Linux 6.5, or when the process is gone. */
  readonly pidfd: OwnedFd | null;
  /** Path of its executable, "" when we may not see it (another user's) or it is gone. */
  readonly exe: string;
  /** Its cgroup (v2), such as "/user.slice/…"; "" when unknown. */
  readonly cgroup: string;
};

/** What the kernel says when the process has been reaped, or never was: its number may be another's by now. */
const GONE: ReadonlySet<number> = new Set([errno.ESRCH, errno.EINVAL, errno.ENODATA]);

/** @param fd  a connected Unix stream socket
 *  @param askPidfd  another one in tests
 *  @throws SyscallError EMFILE, ENFILE: not knowing it for want of a descriptor is not the same as its having none */
export function peerIdentity(fd: BorrowedFd, askPidfd: typeof peerPidfd = peerPidfd): PeerIdentity {
  const { pid, uid, gid } = peerCredentials(fd);
  using stack = new DisposableStack();
  const asked = pidfdOrGone(() => askPidfd(fd));
  const pidfd = asked === "gone" ? null : stack.use(asked);
  const exe = executableOf(pid);
  const cgroup = readCgroup(pid);
  // The number may have been reused while we read: what /proc said then is somebody else's.
  const isKnown = asked !== "gone" && (asked === null || isAlive(asked));
  const groups = peerGroups(fd);
  stack.move();
  return { pid, uid, gid, groups, pidfd, exe: isKnown ? exe : "", cgroup: isKnown ? cgroup : "" };
}

function pidfdOrGone(ask: () => OwnedFd | null): OwnedFd | null | "gone" {
  try {
    return ask();
  } catch (error) {
    if (error instanceof SyscallError && GONE.has(error.errno)) return "gone";
    throw error;
  }
}

function isAlive(pidfd: BorrowedFd): boolean {
  return poll([{ fd: pidfd, events: constants.EPOLLIN }], 0)[0] === 0;
}

/** Path of the executable of `pid`, "" when it cannot be known. */
export function executableOf(pid: number): string {
  try {
    return pid === 0 ? "" : readlinkSync(`/proc/${pid}/exe`);
  } catch {
    return ""; // EACCES for another user's process, ENOENT for one that ended
  }
}

function readCgroup(pid: number): string {
  try {
    const lines = pid === 0 ? [] : readFileSync(`/proc/${pid}/cgroup`, "utf8").split("\n");
    return lines.find((line) => line.startsWith("0::"))?.slice(3) ?? "";
  } catch (error) {
    throwIfExhausted(error, `/proc/${pid}/cgroup`);
    return ""; // it is gone
  }
}

/** A process as it is now, for questions about it; undefined when there is none that we may see. Never for decisions:
 *  the number may be another process's by the time they are made. */
export function processIdentity(pid: number): Omit<PeerIdentity, "pidfd"> | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    const numbers = (key: string): number[] => {
      const line = status.split("\n").find((each) => each.startsWith(`${key}:`)) ?? "";
      return (line.split(":")[1] ?? "").trim().split(/\s+/).filter(Boolean).map(Number);
    };
    const [uid, gid] = [numbers("Uid")[1] ?? 0, numbers("Gid")[1] ?? 0]; // effective ones, as SO_PEERCRED tells
    return { pid, uid, gid, groups: numbers("Groups"), exe: executableOf(pid), cgroup: readCgroup(pid) };
  } catch {
    return undefined;
  }
}
