/** Memory of another process by process_vm_readv(2); needs ptrace rights over it (same uid and dumpable, or CAP_SYS_PTRACE). */
import { calls } from "../calls.ts";
import { check } from "../errno.ts";
import { allocateForever } from "../memory.ts";
import { IOVEC } from "../structs/socket.ts";

const ROOM_BYTES = 4096;
const LOCAL = allocateForever(IOVEC.size);
const REMOTE = allocateForever(IOVEC.size);
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

/** Writes all of `bytes` (at most 4096) or throws. @throws SyscallError EFAULT, ESRCH, EPERM */
export function writeMemory(pid: number, address: number, bytes: Uint8Array): void {
  aim(address, bytes.length);
  ROOM.bytes.set(bytes);
  check(calls.processVmWritev(pid, LOCAL.address, 1, REMOTE.address, 1, 0), "process_vm_writev", String(pid));
}
