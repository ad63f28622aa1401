/** memfd_create(2) and the seals of fcntl(2). */
import { calls } from "../calls.ts";
import { F_ADD_SEALS, F_GET_SEALS, MFD_ALLOW_SEALING, MFD_CLOEXEC, MFD_NOEXEC_SEAL } from "../constants.ts";
import { check, EINVAL } from "../errno.ts";
import { type BorrowedFd, OwnedFd } from "../fd.ts";
import { cString } from "../memory.ts";

/**
 * Creates an empty memory file that can be sealed, close-on-exec and never executable.
 * @param name  shown as `/memfd:name` in /proc, at most 249 bytes
 * MFD_NOEXEC_SEAL is Linux 6.3; older kernels answer EINVAL and get the file without it.
 */
export function memfdCreate(name: string): OwnedFd {
  const flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  const path = cString(name);
  const hardened = calls.memfdCreate(path, flags | MFD_NOEXEC_SEAL);
  const result = hardened === -EINVAL ? calls.memfdCreate(path, flags) : hardened;
  return new OwnedFd(check(result, "memfd_create", name));
}

/** Sets the size; new bytes are zero and cost nothing until they are touched. */
export function ftruncate(fd: BorrowedFd, lengthBytes: number): void {
  check(calls.ftruncate(fd.number, lengthBytes), "ftruncate", `fd ${fd.number}`);
}

/** Adds F_SEAL_* bits. @throws SyscallError EPERM once F_SEAL_SEAL is set, EBUSY for F_SEAL_WRITE while mapped */
export function addSeals(fd: BorrowedFd, seals: number): void {
  check(calls.fcntl(fd.number, F_ADD_SEALS, seals), "fcntl F_ADD_SEALS", `fd ${fd.number}`);
}

/** The F_SEAL_* bits. @throws SyscallError EINVAL for a descriptor that cannot carry seals */
export function getSeals(fd: BorrowedFd): number {
  return check(calls.fcntl(fd.number, F_GET_SEALS, 0), "fcntl F_GET_SEALS", `fd ${fd.number}`);
}
