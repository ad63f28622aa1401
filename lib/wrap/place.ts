/**
 * Where a Unix listener is: in our folder, where a rule says, nowhere, or one that systemd made. A file is made under a
 * name that carries the TCP address (names.ts) and moved to where the rule wants it: its address, which the kernel
 * keeps as it was bound, still says what it stands for, and the move takes a stale file's place in one step.
 */
import { chmodSync, lchownSync, lstatSync, renameSync, unlinkSync } from "node:fs";
import { basename, dirname } from "node:path";
import {
  bind,
  constants,
  errno,
  fchmod,
  flock,
  listen,
  type OwnedFd,
  open,
  SyscallError,
  socket,
  unixAddress,
} from "../../ffi/mod.ts";
import { FailureError } from "../errors.ts";
import { type ListenerName, listenerPath } from "./names.ts";
import { groupId, ownerId } from "./rules/owners.ts";
import { isServed, whileUnswept } from "./sweep.ts";

const { AF_UNIX, LOCK_EX, O_PATH, O_RDONLY, SOCK_STREAM } = constants;

/** The kernel cuts it to net.core.somaxconn. A short backlog is a queue of SYNs to TCP, but EAGAIN to a Unix client. */
export const LONGEST_BACKLOG = 0x7fffffff;

export type Place =
  | { readonly kind: "folder" }
  | { readonly kind: "path"; readonly path: string }
  | { readonly kind: "abstract"; readonly name: string }
  | { readonly kind: "nowhere" }
  | { readonly kind: "given"; readonly take: () => { readonly fd: OwnedFd; readonly path: string } };

export type Access = {
  readonly mode?: number | undefined;
  readonly owner?: string | undefined;
  readonly group?: string | undefined;
};

export type Placed = {
  readonly unix: OwnedFd;
  /** What to connect to: a path, or "@" and an abstract name; undefined for nowhere. */
  readonly path: string | undefined;
  /** As the socket itself says it. */
  readonly address: string;
  /** Of the file, if we made one that is to go in the end. */
  readonly inode: bigint | undefined;
};

/** @throws SyscallError, RangeError (path too long), FailureError: nothing is left behind */
export function placeListener(
  place: Place,
  access: Access,
  directory: string,
  name: ListenerName,
  serial: number,
): Placed {
  const path = listenerPath(directory, name, process.pid, serial);
  switch (place.kind) {
    case "folder":
      return whileUnswept(directory, () => placeAt(path, access));
    case "nowhere": {
      const placed = whileUnswept(directory, () => placeAt(path, {}));
      unlinkSame(path, placed.inode);
      return { ...placed, path: undefined, inode: undefined };
    }
    case "path":
      return placeByMove(place.path, basename(path), access);
    case "abstract": {
      const unix = listenAt(`@${place.name}`, undefined);
      return { unix, path: `@${place.name}`, address: `@${place.name}`, inode: undefined };
    }
    case "given": {
      const { fd, path } = place.take();
      return { unix: fd, path, address: path, inode: undefined };
    }
  }
}

/** Mode 0600 from the first moment: a Unix socket takes its mode from the unbound socket's inode. */
function listenAt(address: string, firstMode: number | undefined): OwnedFd {
  const bytes = unixAddress(address);
  const fd = socket(AF_UNIX, SOCK_STREAM);
  try {
    if (firstMode !== undefined) fchmod(fd, firstMode);
    bind(fd, bytes, address);
    listen(fd, LONGEST_BACKLOG);
    return fd;
  } catch (error) {
    fd.close();
    throw error;
  }
}

/** The name holds our pid and a number never used twice: a file that is there is of a dead process with our pid. */
function placeAt(path: string, access: Access): Placed {
  if (isThere(path)) {
    if (isServed(path)) throw new SyscallError("bind", errno.EADDRINUSE, path);
    unlinkSync(path);
  }
  const unix = listenAt(path, 0o600);
  return finish({ unix, path, address: path, inode: inodeOf(path) }, path, access);
}

function placeByMove(path: string, name: string, access: Access): Placed {
  unixAddress(path); // too long: it could be made, but nobody could connect to it
  using folder = open(dirname(path), O_RDONLY);
  flock(folder, LOCK_EX); // of two supervisors that want the path, one sees the other's socket
  const status = lstatSync(path, { throwIfNoEntry: false });
  if (status !== undefined && (!status.isSocket() || isServed(path))) {
    throw new SyscallError("bind", errno.EADDRINUSE, path);
  }
  const made = `/proc/self/fd/${folder.number}/${name}`; // short, however long the path is
  const unix = listenAt(made, 0o600);
  const mode = access.mode ?? 0o777 & ~process.umask(); // as bind(2) would
  const placed = finish({ unix, path, address: made, inode: inodeOf(made) }, made, { ...access, mode });
  renameSync(made, path);
  return placed;
}

function finish(placed: Placed, path: string, { mode, owner, group }: Access): Placed {
  try {
    if (owner !== undefined || group !== undefined) {
      lchownSync(path, idFor(owner, ownerId), idFor(group, groupId));
    }
    if (mode !== undefined) chmodSync(path, mode);
    return placed;
  } catch (error) {
    unlinkSame(path, placed.inode);
    placed.unix.close();
    if (error instanceof FailureError) throw error;
    throw new FailureError("denied", `Cannot set mode and owner of "${path}": ${(error as Error).message}`);
  }
}

/** -1 leaves it as it is. */
function idFor(name: string | undefined, find: (name: string) => number | undefined): number {
  if (name === undefined) return -1;
  const id = find(name);
  if (id === undefined) throw new FailureError("invalid", `Cannot find user or group "${name}" on this machine`);
  return id;
}

function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

function inodeOf(path: string): bigint {
  return lstatSync(path, { bigint: true }).ino;
}

/** The file alone, by which the socket can be connected to when its path is gone, too. The listener ends in spite of it.
 *  @returns undefined where there is none, or none that we may see */
export function openSocketFile(path: string | undefined): OwnedFd | undefined {
  if (path?.startsWith("/") !== true) return undefined;
  try {
    return open(path, O_PATH);
  } catch (error) {
    if (error instanceof SyscallError) return undefined; // one that systemd made may be in another mount namespace
    throw error;
  }
}

/** Only the file that we made: somebody may have removed it and put another in its place. */
export function unlinkSame(path: string, inode: bigint | undefined): void {
  try {
    if (inode !== undefined && inodeOf(path) === inode) unlinkSync(path);
  } catch {
    // already gone
  }
}
