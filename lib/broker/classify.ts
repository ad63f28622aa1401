/** What a descriptor is, from what the kernel says of it, so that policy and listings can speak of it. Reads nothing from
 *  it and changes nothing about it. The strings of /proc are the kernel's; a name in a file system cannot pass for one. */
import { readFileSync, readlinkSync } from "node:fs";
import {
  type BorrowedFd,
  constants,
  type FileStatus,
  fstat,
  getIntOption,
  getSeals,
  getStatusFlags,
  SyscallError,
} from "../../ffi/mod.ts";
import type { Access, Family, FdFacts, FdType, Seal } from "../policy/fd-facts.ts";

export type Classified = FdFacts & {
  readonly access: Access;
  /** Holds or makes other descriptors, so nothing is known of what it gives access to. */
  readonly holdsOthers?: true;
  /** O_PATH: it says where something is, and whoever has it may open that, or what is below it. */
  readonly isPath?: true;
};

const { S_IFMT, S_IFSOCK, S_IFREG, S_IFIFO, S_IFDIR, S_IFCHR, S_IFBLK, O_PATH } = constants;
const SEALS: readonly (readonly [number, Seal])[] = [
  [constants.F_SEAL_SEAL, "seal"],
  [constants.F_SEAL_SHRINK, "shrink"],
  [constants.F_SEAL_GROW, "grow"],
  [constants.F_SEAL_WRITE, "write"],
  [constants.F_SEAL_FUTURE_WRITE, "future-write"],
];

/** @param status  what fstat(2) says of it  @throws SyscallError for a descriptor that is not open */
export function classifyFd(fd: BorrowedFd, { mode, sizeBytes }: FileStatus = fstat(fd)): Classified {
  const flags = getStatusFlags(fd);
  if ((flags & O_PATH) !== 0) return { type: "other", access: "none", isPath: true };
  const access = ACCESS[flags & 3] ?? "none";
  switch (mode & S_IFMT) {
    case S_IFSOCK:
      return { ...socketFacts(fd), access };
    case S_IFIFO:
      return { type: "pipe", access };
    case S_IFDIR:
      return { type: "directory", access };
    case S_IFCHR:
    case S_IFBLK:
      return { type: "device", access };
    default:
      return classifyFile(fd, access, (mode & S_IFMT) === S_IFREG, sizeBytes);
  }
}

const HANGS_UP: ReadonlySet<FdType> = new Set(["pipe", "unix-stream", "unix-seqpacket", "tcp"]);

/** Whether it tells when its other end is closed. Other sockets do not, or keep those who ask waiting (vsock). */
export function hangsUp(fd: BorrowedFd): boolean {
  return HANGS_UP.has(classifyFd(fd).type);
}

const ACCESS: readonly Access[] = ["read", "write", "read-write", "none"];

const FAMILIES: ReadonlyMap<number, Family> = new Map([
  [constants.AF_UNIX, "unix"],
  [constants.AF_INET, "inet"],
  [constants.AF_INET6, "inet6"],
  [constants.AF_NETLINK, "netlink"],
]);

function socketFacts(fd: BorrowedFd): { readonly type: FdType; readonly family: Family } {
  const domain = getIntOption(fd, constants.SOL_SOCKET, constants.SO_DOMAIN);
  return { type: socketType(fd, domain), family: FAMILIES.get(domain) ?? "other" };
}

function socketType(fd: BorrowedFd, domain: number): FdType {
  const option = (name: number): number => getIntOption(fd, constants.SOL_SOCKET, name);
  const type = option(constants.SO_TYPE);
  const listens = option(constants.SO_ACCEPTCONN) === 1;
  if (domain === constants.AF_UNIX) {
    if (listens) return "unix-listener";
    return type === constants.SOCK_STREAM
      ? "unix-stream"
      : type === constants.SOCK_DGRAM
        ? "unix-dgram"
        : "unix-seqpacket";
  }
  if (domain !== constants.AF_INET && domain !== constants.AF_INET6) return "socket";
  const protocol = option(constants.SO_PROTOCOL);
  if (protocol === constants.IPPROTO_TCP) return listens ? "tcp-listener" : "tcp";
  return type === constants.SOCK_DGRAM && protocol === constants.IPPROTO_UDP ? "udp" : "socket";
}

function classifyFile(fd: BorrowedFd, access: Access, isRegular: boolean, sizeBytes: number): Classified {
  const target = linkOf(fd);
  if (target.startsWith("anon_inode:")) return classifyAnonymous(target.slice("anon_inode:".length), access);
  if (target.startsWith("pidfd:")) return { type: "pidfd", access }; // pidfs, Linux 6.9
  const exporter = target.startsWith("/dmabuf:") ? exporterOf(fd) : undefined;
  if (exporter !== undefined) return { type: "dma-buf", access, sizeBytes, exporter };
  if (NAMESPACE.test(target)) return { type: "namespace", access };
  // What has a path is in a file system; the kernel calls some things regular files that are in none.
  if (!isRegular || !/^(\/|$)/.test(target)) return { type: "other", access };
  // Files of tmpfs have seals as well; a name that begins so can be made by root only, in the root directory.
  const seals = target.startsWith("/memfd:") ? sealsOf(fd) : undefined;
  if (seals === undefined) return { type: "file", access, sizeBytes };
  // As it is now: before the seals that were found were there it may have been another one.
  return { type: "memfd", access, sizeBytes: seals.length === 0 ? sizeBytes : fstat(fd).sizeBytes, seals };
}

/** @param name  what the kernel calls a file that is in no file system */
export function classifyAnonymous(name: string, access: Access): Classified {
  if (name === "[eventfd]") return { type: "eventfd", access };
  if (name === "[pidfd]") return { type: "pidfd", access };
  const holds = name === "[eventpoll]" || name === "[io_uring]" || name.startsWith("seccomp");
  return holds ? { type: "other", access, holdsOthers: true } : { type: "other", access };
}

/** "net:[4026531840]", of nsfs. */
const NAMESPACE = /^\w+:\[\d+\]$/;

function linkOf(fd: BorrowedFd): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd.number}`);
  } catch {
    return ""; // no /proc: a file is then a file
  }
}

function sealsOf(fd: BorrowedFd): Seal[] | undefined {
  try {
    const bits = getSeals(fd);
    return SEALS.filter(([bit]) => (bits & bit) !== 0).map(([, name]) => name);
  } catch (error) {
    if (error instanceof SyscallError) return undefined; // EINVAL: no memfd
    throw error;
  }
}

/** dma-bufs name their exporter in fdinfo, and nothing else does. */
function exporterOf(fd: BorrowedFd): string | undefined {
  try {
    return /^exp_name:\s*(.+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd.number}`, "utf8"))?.[1];
  } catch {
    return undefined;
  }
}
