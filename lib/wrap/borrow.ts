/** Finds a socket by its inode in some process that holds it. We keep no listener of the program open ourselves. */
import { readdirSync, readlinkSync } from "node:fs";
import { fstat, type OwnedFd, pidfdGetfd, pidfdOpen, SyscallError } from "../../ffi/mod.ts";

export type Holder = { readonly process: number; readonly number: number };

/** @param likely  who had it last @returns undefined where nobody has it whom we may look into */
export function borrowSocket(inode: bigint, likely: Holder | undefined): OwnedFd | undefined {
  const known = likely && takeFrom(likely, inode);
  if (known !== undefined) return known;
  for (const process of list("/proc").filter((name) => /^\d+$/.test(name))) {
    const number = list(`/proc/${process}/fd`).find((fd) => linkOf(process, fd) === `socket:[${inode}]`);
    const found = number && takeFrom({ process: Number(process), number: Number(number) }, inode);
    if (found) return found;
  }
  return undefined;
}

function takeFrom({ process, number }: Holder, inode: bigint): OwnedFd | undefined {
  try {
    using pidfd = pidfdOpen(process);
    const fd = pidfdGetfd(pidfd, number);
    if (fstat(fd).ino === inode) return fd;
    fd.close();
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error; // gone, or closed
  }
  return undefined;
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function linkOf(process: string, fd: string): string {
  try {
    return readlinkSync(`/proc/${process}/fd/${fd}`);
  } catch {
    return "";
  }
}
