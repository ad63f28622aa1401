/** Memory of another process by process_vm_readv(2); needs ptrace rights over it (same uid and dumpable, or CAP_SYS_PTRACE). */
import { calls } from "../calls.ts";
import { check, EFAULT, SyscallError } from "../errno.ts";
import { allocateEach, allocateForever } from "../memory.ts";
import { IOVEC } from "../structs/socket.ts";

const ROOM_BYTES = 4096;
const MAX_PARTS = 2;
const [LOCAL, REMOTE] = allocateEach(IOVEC.size * MAX_PARTS, IOVEC.size * MAX_PARTS);
const ROOM = allocateForever(ROOM_BYTES);

const { iov_base: BASE, iov_len: LENGTH } = IOVEC.offsets;

/** A struct iovec, by hand: this is part of every trapped call. Addresses of user space and lengths are below 2^53. */
function setPart(data: DataView, index: number, address: number, lengthBytes: number): void {
  const at = index * IOVEC.size;
  data.setUint32(at + BASE, address % 2 ** 32, true);
  data.setUint32(at + BASE + 4, Math.floor(address / 2 ** 32), true);
  data.setUint32(at + LENGTH, lengthBytes, true); // the rest of the length stays zero
}

function aim(address: number, lengthBytes: number): void {
  if (lengthBytes > ROOM_BYTES)
    throw new RangeError(`Cannot move ${lengthBytes} bytes at once: ${ROOM_BYTES} is the most`);
  setPart(LOCAL.data, 0, ROOM.address, lengthBytes);
  setPart(REMOTE.data, 0, address, lengthBytes);
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
    setPart(LOCAL.data, index, ROOM.address + at, bytes.length);
    setPart(REMOTE.data, index, address, bytes.length);
    at += bytes.length;
  }
  const count = parts.length;
  const result = calls.processVmWritev(pid, LOCAL.address, count, REMOTE.address, count, 0);
  if (check(result, "process_vm_writev", String(pid)) < at) throw new SyscallError("process_vm_writev", EFAULT);
}
