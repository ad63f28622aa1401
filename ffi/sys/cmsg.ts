/** sendmsg(2) and recvmsg(2) with descriptors (cmsg(3), unix(7) SCM_RIGHTS). */
import { calls } from "../calls.ts";
import { MSG_CMSG_CLOEXEC, MSG_CTRUNC, MSG_DONTWAIT, MSG_NOSIGNAL, SCM_RIGHTS, SOL_SOCKET } from "../constants.ts";
import { check, EAGAIN, retry } from "../errno.ts";
import { type BorrowedFd, OwnedFd } from "../fd.ts";
import { allocateForever, type NativeMemory } from "../memory.ts";
import { CMSGHDR, IOVEC, MSGHDR } from "../structs/socket.ts";

/** The kernel's own limit on descriptors in one message. */
export const SCM_MAX_FD = 253;

const CMSG_DATA = 16; // CMSG_LEN(0) on 64-bit
const CONTROL_BYTES = CMSG_DATA + SCM_MAX_FD * 4 + 4;
const PAYLOAD_BYTES = 1 << 16;

const message: NativeMemory = allocateForever(MSGHDR.size);
const vector: NativeMemory = allocateForever(IOVEC.size);
const control: NativeMemory = allocateForever(CONTROL_BYTES);
const payload: NativeMemory = allocateForever(PAYLOAD_BYTES);

function prepare(payloadBytes: number, controlBytes: number): void {
  IOVEC.write(vector.data, { iov_base: payload.address, iov_len: payloadBytes });
  MSGHDR.write(message.data, {
    msg_name: 0,
    msg_namelen: 0,
    msg_iov: vector.address,
    msg_iovlen: 1,
    msg_control: controlBytes === 0 ? 0 : control.address,
    msg_controllen: controlBytes,
    msg_flags: 0,
  });
}

function writeControl(fds: readonly BorrowedFd[]): number {
  if (fds.length === 0) return 0;
  const length = CMSG_DATA + fds.length * 4;
  CMSGHDR.write(control.data, { cmsg_len: length, cmsg_level: SOL_SOCKET, cmsg_type: SCM_RIGHTS });
  for (const [index, fd] of fds.entries()) control.data.setInt32(CMSG_DATA + index * 4, fd.number, true);
  return Math.ceil(length / 8) * 8;
}

/**
 * Sends at most 64 KiB of `bytes` with all of `fds` on the first of them, without waiting and without SIGPIPE.
 * The descriptors stay the caller's. At most SCM_MAX_FD of them, and at least one byte with them.
 * @returns bytes sent, null if it would block
 * @throws SyscallError ETOOMANYREFS when this user has RLIMIT_NOFILE descriptors in flight, EPIPE, ECONNRESET
 */
export function sendmsg(fd: BorrowedFd, bytes: Uint8Array, fds: readonly BorrowedFd[] = []): number | null {
  const part = bytes.length > PAYLOAD_BYTES ? bytes.subarray(0, PAYLOAD_BYTES) : bytes;
  payload.bytes.set(part);
  prepare(part.length, writeControl(fds));
  const result = retry(() => calls.sendmsg(fd.number, message.address, MSG_DONTWAIT | MSG_NOSIGNAL));
  return result === -EAGAIN ? null : check(result, "sendmsg", `fd ${fd.number}`);
}

export type Received = {
  /** Empty at the end of the stream. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Owned by the caller, close-on-exec. */
  readonly fds: OwnedFd[];
  /** True when the kernel dropped descriptors that did not fit or could not be installed (RLIMIT_NOFILE). */
  readonly truncated: boolean;
};

/** Receives up to 64 KiB and the descriptors that came with them, without waiting. @returns null if nothing is there */
export function recvmsg(fd: BorrowedFd): Received | null {
  prepare(PAYLOAD_BYTES, CONTROL_BYTES);
  const result = retry(() => calls.recvmsg(fd.number, message.address, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
  if (result === -EAGAIN) return null;
  const length = check(result, "recvmsg", `fd ${fd.number}`);
  const { msg_controllen, msg_flags } = MSGHDR.read(message.data);
  return {
    bytes: payload.bytes.slice(0, length),
    fds: readControl(msg_controllen),
    truncated: (msg_flags & MSG_CTRUNC) !== 0,
  };
}

function readControl(controlBytes: number): OwnedFd[] {
  const fds: OwnedFd[] = [];
  for (let at = 0; at + CMSG_DATA <= controlBytes; ) {
    const { cmsg_len, cmsg_level, cmsg_type } = CMSGHDR.read(control.data, at);
    if (cmsg_len < CMSG_DATA) break;
    if (cmsg_level === SOL_SOCKET && cmsg_type === SCM_RIGHTS) {
      for (let data = CMSG_DATA; data + 4 <= cmsg_len; data += 4) {
        fds.push(new OwnedFd(control.data.getInt32(at + data, true)));
      }
    }
    at += Math.ceil(cmsg_len / 8) * 8;
  }
  return fds;
}
