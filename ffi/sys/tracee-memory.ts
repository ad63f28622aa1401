/** Memory of another process by process_vm_readv(2); needs ptrace rights over it (same uid and dumpable, or CAP_SYS_PTRACE). */
import { calls } from "../calls.ts";
import { check, EFAULT, SyscallError } from "../errno.ts";
import { allocateForever } from "../memory.ts";
import { IOVEC } from "../structs/socket.ts";

const ROOM_BYTES = 4096;
const MAX_PARTS = 2;
const LOCAL = allocateForever(IOVEC.size * MAX_PARTS);
const REMOTE = allocateForever(IOVEC.size * MAX_PARTS);
const ROOM = allocateForever(ROOM_BYTES);

function aim(address: number, lengthBytes: number): void {
  if (lengthBytes > ROOM_BYTES)
    throw new RangeError(`Cannot move ${lengthBytes} bytes at once: ${ROOM_BYTES} is the most`);
  IOVEC.write(LOCAL.data, { iov_base: ROOM.address, iov_len: lengthBytes });
  IOVEC.write(REMOTE.data, { iov_base: address, iov_len: lengthBytes });
}

/** Reads up to `lengthBytes` (at most 4096); fewer when the memory ends there. @throws SyscallError EFAULT, ESRCH, EPERM */
export function readMemory(pid: number, address: number, lengthBytes: number): Uint8Array<ArrayBuffer> {
  aim(address, lengthBytes);
  const result = calls.processVmReadv(pid, LOCAL.address, 1, REMOTE.address, 1, 0);
  return ROOM.bytes.slice(0, check(result, "process_vm_readv", String(pid)));
}

export type MemoryPart = { readonly address: number; readonly bytes: Uint8Array };

/** Writes all of one or two parts (4096 bytes together at most), in one call, or throws. @throws SyscallError EFAULT, ESRCH, EPERM */
export function writeMemory(pid: number, parts: readonly MemoryPart[]): void {
  let at = 0;
  for (const [index, { address, bytes }] of parts.entries()) {
    if (index >= MAX_PARTS || at + bytes.length > ROOM_BYTES) {
      throw new RangeError(`Cannot write ${parts.length} parts of ${at + bytes.length} bytes and more at once`);
    }
    ROOM.bytes.set(bytes, at);
    IOVEC.write(LOCAL.data, { iov_base: ROOM.address + at, iov_len: bytes.length }, index * IOVEC.size);
    IOVEC.write(REMOTE.data, { iov_base: address, iov_len: bytes.length }, index * IOVEC.size);
    at += bytes.length;
  }
  const count = parts.length;
  const result = calls.processVmWritev(pid, LOCAL.address, count, REMOTE.address, count, 0);
  if (check(result, "process_vm_writev", String(pid)) < at) throw new SyscallError("process_vm_writev", EFAULT);
}
