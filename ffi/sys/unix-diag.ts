/**
 * sock_diag(7) for Unix sockets: which are connected in our network namespace, to which, and what they are called.
 * Any user may ask. Inode and cookie are those that fstat(2) and SO_COOKIE tell of a descriptor.
 */
import {
  AF_NETLINK,
  AF_UNIX,
  NETLINK_SOCK_DIAG,
  NLM_F_DUMP,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  SOCK_DIAG_BY_FAMILY,
  SOCK_RAW,
  TCP_ESTABLISHED,
  UDIAG_SHOW_NAME,
  UDIAG_SHOW_PEER,
  UDIAG_SHOW_UID,
  UDIAG_SHOW_VFS,
  UNIX_DIAG_NAME,
  UNIX_DIAG_PEER,
  UNIX_DIAG_UID,
  UNIX_DIAG_VFS,
} from "../constants.ts";
import { SyscallError } from "../errno.ts";
import { readUnixAddress } from "./address.ts";
import { recv, send, socket } from "./socket.ts";

export type UnixSocket = {
  readonly inode: number;
  readonly cookie: bigint;
  /** As readUnixAddress() writes it; "" for none. An accepted socket has its listener's. */
  readonly name: string;
  /** Of the file that it is bound to, its lowest 32 bits; undefined without one. */
  readonly fileInode: number | undefined;
  /** The inode of the socket at the other end; undefined when that has been closed. */
  readonly peer: number | undefined;
  /** Who made it, before Linux 5.3 undefined. */
  readonly uid: number | undefined;
};

const HEADER_BYTES = 16; // struct nlmsghdr
const REQUEST_BYTES = 24; // struct unix_diag_req
const MESSAGE_BYTES = 16; // struct unix_diag_msg
const ATTRIBUTE_BYTES = 4; // struct rtattr
const BUFFER_BYTES = 64 * 1024; // the kernel fills 32 KiB at most

/** @throws SyscallError EPROTONOSUPPORT, ENOENT: a kernel without CONFIG_UNIX_DIAG */
export function listUnixSockets(): UnixSocket[] {
  using netlink = socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
  send(netlink, request(), 0);
  const found: UnixSocket[] = [];
  const buffer = new Uint8Array(BUFFER_BYTES);
  for (;;) {
    const count = recv(netlink, buffer, 0) ?? 0;
    if (readMessages(new DataView(buffer.buffer, 0, count), found) || count === 0) return found;
  }
}

function request(): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + REQUEST_BYTES);
  const data = new DataView(bytes.buffer);
  data.setUint32(0, bytes.length, true);
  data.setUint16(4, SOCK_DIAG_BY_FAMILY, true);
  data.setUint16(6, NLM_F_REQUEST | NLM_F_DUMP, true);
  data.setUint8(HEADER_BYTES, AF_UNIX);
  data.setUint32(HEADER_BYTES + 4, 1 << TCP_ESTABLISHED, true);
  const show = UDIAG_SHOW_NAME | UDIAG_SHOW_VFS | UDIAG_SHOW_PEER | UDIAG_SHOW_UID;
  data.setUint32(HEADER_BYTES + 12, show, true);
  return bytes;
}

/** @returns whether that was all */
function readMessages(data: DataView, into: UnixSocket[]): boolean {
  for (let at = 0; at + HEADER_BYTES <= data.byteLength; ) {
    const [length, type] = [data.getUint32(at, true), data.getUint16(at + 4, true)];
    if (type === NLMSG_DONE || length < HEADER_BYTES) return true;
    if (type === NLMSG_ERROR) throw new SyscallError("sock_diag", -data.getInt32(at + HEADER_BYTES, true));
    into.push(readSocket(new DataView(data.buffer, data.byteOffset + at + HEADER_BYTES, length - HEADER_BYTES)));
    at += (length + 3) & ~3;
  }
  return false;
}

function readSocket(message: DataView): UnixSocket {
  const attributes = readAttributes(message);
  const word = (type: number): number | undefined => attributes.get(type)?.getUint32(0, true);
  const name = attributes.get(UNIX_DIAG_NAME);
  return {
    inode: message.getUint32(4, true),
    cookie: message.getBigUint64(8, true),
    name: name === undefined ? "" : readName(name),
    fileInode: word(UNIX_DIAG_VFS),
    peer: word(UNIX_DIAG_PEER) || undefined, // 0 for a socket without a descriptor
    uid: word(UNIX_DIAG_UID),
  };
}

function readAttributes(message: DataView): Map<number, DataView> {
  const attributes = new Map<number, DataView>();
  for (let at = MESSAGE_BYTES; at + ATTRIBUTE_BYTES <= message.byteLength; ) {
    const [length, type] = [message.getUint16(at, true), message.getUint16(at + 2, true)];
    if (length < ATTRIBUTE_BYTES) break;
    const start = message.byteOffset + at + ATTRIBUTE_BYTES;
    attributes.set(type, new DataView(message.buffer, start, length - ATTRIBUTE_BYTES));
    at += (length + 3) & ~3;
  }
  return attributes;
}

/** What comes is a sockaddr_un without its family. */
function readName(path: DataView): string {
  const address = new Uint8Array(2 + path.byteLength);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(new Uint8Array(path.buffer, path.byteOffset, path.byteLength), 2);
  return readUnixAddress(address) ?? "";
}
