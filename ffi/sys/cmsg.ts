/** sendmsg(2) and recvmsg(2) with descriptors (cmsg(3), unix(7) SCM_RIGHTS). */
import { calls } from "../calls.ts";
import { MSG_CMSG_CLOEXEC, MSG_CTRUNC, MSG_DONTWAIT, MSG_NOSIGNAL, SCM_RIGHTS, SOL_SOCKET } from "../constants.ts";
import { EAGAIN, EINTR, SyscallError } from "../errno.ts";
import { type BorrowedFd, type CloseFd, OwnedFd } from "../fd.ts";
import { allocateEach } from "../memory.ts";
import { CMSGHDR, IOVEC, MSGHDR } from "../structs/socket.ts";

/** The kernel's own limit on descriptors in one message. */
export const SCM_MAX_FD = 253;

const CMSG_DATA = 16; // CMSG_LEN(0) on 64-bit
const CONTROL_BYTES = CMSG_DATA + SCM_MAX_FD * 4 + 4;
const PAYLOAD_BYTES = 1 << 16;

const [message, vector] = allocateEach(MSGHDR.size, IOVEC.size);
const [control, payload] = allocateEach(CONTROL_BYTES, PAYLOAD_BYTES);

// What is the same in every call is written once; the rest word by word, since this is the way of every message.
IOVEC.write(vector.data, { iov_base: payload.address });
MSGHDR.write(message.data, { msg_iov: vector.address, msg_iovlen: 1, msg_control: control.address });
const LENGTH_AT = IOVEC.offsets.iov_len;
const CONTROL_LENGTH_AT = MSGHDR.offsets.msg_controllen;
const FLAGS_AT = MSGHDR.offsets.msg_flags;
const { cmsg_len: LENGTH_OF_CONTROL_AT, cmsg_level: LEVEL_AT, cmsg_type: TYPE_AT } = CMSGHDR.offsets;

/** Lengths are below 2^32, so the upper halves stay zero. */
function prepare(payloadBytes: number, controlBytes: number): void {
  vector.data.setUint32(LENGTH_AT, payloadBytes, true);
  message.data.setUint32(CONTROL_LENGTH_AT, controlBytes, true);
}

/** So few bytes, as mostly, are copied one by one: that takes less than asking the runtime to. */
const FEW_BYTES = 96;

function putPayload(bytes: Uint8Array): void {
  const { length } = bytes;
  if (length > FEW_BYTES) payload.bytes.set(bytes);
  else for (let index = 0; index < length; index++) payload.bytes[index] = bytes[index] as number;
}

function takePayload(length: number): Uint8Array<ArrayBuffer> {
  if (length > FEW_BYTES) return payload.bytes.slice(0, length);
  const bytes = new Uint8Array(length);
  for (let index = 0; index < length; index++) bytes[index] = payload.bytes[index] as number;
  return bytes;
}

function writeControl(fds: readonly BorrowedFd[]): number {
  if (fds.length === 0) return 0;
  const length = CMSG_DATA + fds.length * 4;
  control.data.setUint32(LENGTH_OF_CONTROL_AT, length, true);
  control.data.setUint32(LENGTH_OF_CONTROL_AT + 4, 0, true);
  control.data.setInt32(LEVEL_AT, SOL_SOCKET, true);
  control.data.setInt32(TYPE_AT, SCM_RIGHTS, true);
  let at = CMSG_DATA;
  for (const fd of fds) {
    control.data.setInt32(at, fd.number, true);
    at += 4;
  }
  return Math.ceil(length / 8) * 8;
}

/**
 * Sends at most 64 KiB of `bytes` with all of `fds` on the first of them, without waiting and without SIGPIPE.
 * The descriptors stay the caller's. At most SCM_MAX_FD of them, and at least one byte with them.
 * @param flags  of sendmsg(2), besides  @returns bytes sent, null if it would block
 * @throws SyscallError ETOOMANYREFS when this user has RLIMIT_NOFILE descriptors in flight, EPIPE, ECONNRESET
 */
export function sendmsg(fd: BorrowedFd, bytes: Uint8Array, fds: readonly BorrowedFd[] = [], flags = 0): number | null {
  const part = bytes.length > PAYLOAD_BYTES ? bytes.subarray(0, PAYLOAD_BYTES) : bytes;
  putPayload(part);
  prepare(part.length, writeControl(fds));
  const { number } = fd;
  let result: number;
  do result = calls.sendmsg(number, message.address, MSG_DONTWAIT | MSG_NOSIGNAL | flags);
  while (result === -EINTR);
  if (result === -EAGAIN) return null;
  if (result < 0) throw new SyscallError("sendmsg", -result, `fd ${number}`);
  return result;
}

export type Received = {
  /** Empty at the end of the stream. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Owned by the caller, close-on-exec. */
  readonly fds: OwnedFd[];
  /** True when the kernel dropped descriptors that did not fit or could not be installed (RLIMIT_NOFILE). */
  readonly truncated: boolean;
};

/** Receives up to 64 KiB and the descriptors that came with them.
 *  @param wait  sleeps until something comes, where the descriptor is blocking, SO_RCVTIMEO at most
 *  @param closeFd  how those are closed that came
 *  @returns null if nothing is there, or a signal came while it slept: the time that it may sleep would begin anew */
export function recvmsg(fd: BorrowedFd, wait = false, closeFd?: CloseFd): Received | null {
  prepare(PAYLOAD_BYTES, CONTROL_BYTES);
  const { number } = fd;
  const flags = wait ? MSG_CMSG_CLOEXEC : MSG_CMSG_CLOEXEC | MSG_DONTWAIT;
  let result: number;
  do result = calls.recvmsg(number, message.address, flags);
  while (result === -EINTR && !wait);
  if (result === -EAGAIN || result === -EINTR) return null;
  if (result < 0) throw new SyscallError("recvmsg", -result, `fd ${number}`);
  return {
    bytes: takePayload(result),
    fds: readControl(message.data.getUint32(CONTROL_LENGTH_AT, true), closeFd),
    truncated: (message.data.getInt32(FLAGS_AT, true) & MSG_CTRUNC) !== 0,
  };
}

function readControl(controlBytes: number, closeFd: CloseFd | undefined): OwnedFd[] {
  const fds: OwnedFd[] = [];
  for (let at = 0; at + CMSG_DATA <= controlBytes; ) {
    const length = control.data.getUint32(at + LENGTH_OF_CONTROL_AT, true); // of what we gave room for
    if (length < CMSG_DATA) break;
    const level = control.data.getInt32(at + LEVEL_AT, true);
    if (level === SOL_SOCKET && control.data.getInt32(at + TYPE_AT, true) === SCM_RIGHTS) {
      for (let data = CMSG_DATA; data + 4 <= length; data += 4) {
        fds.push(new OwnedFd(control.data.getInt32(at + data, true), closeFd));
      }
    }
    at += Math.ceil(length / 8) * 8;
  }
  return fds;
}
