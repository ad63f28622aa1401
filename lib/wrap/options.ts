/**
 * Socket options across a swap. The kernel itself is asked what a TCP socket would say: a socket of our own, never
 * connected, answers with the defaults and judges what a program sets.
 */
import {
  type BorrowedFd,
  constants,
  getIntOption,
  getsockopt,
  hasOptionValue,
  type OwnedFd,
  SyscallError,
  setsockopt,
  socket,
} from "../../ffi/mod.ts";
import type { Domain } from "./names.ts";
import { RARE_OPTIONS } from "./seldom-options.ts";
import { familyOf } from "./socket.ts";
import { keyOption, type OptionValues, optionKey } from "./socket-table.ts";

const { IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, SOL_SOCKET } = constants;

export type Option = readonly [level: number, name: number];

/** Options that a Unix socket has too: their values are set on it. */
const COMMON: readonly Option[] = [
  constants.SO_REUSEADDR,
  constants.SO_KEEPALIVE,
  constants.SO_OOBINLINE,
  constants.SO_PRIORITY,
  constants.SO_LINGER,
  constants.SO_RCVLOWAT,
  constants.SO_RCVTIMEO,
  constants.SO_SNDTIMEO,
  constants.SO_RCVBUF, // of no effect on a Unix socket, but it reads back
].map((name): Option => [SOL_SOCKET, name]);

/** The rest of those. */
const RARE: readonly Option[] = RARE_OPTIONS.map((name) => [SOL_SOCKET, name]);

/** Options that only TCP has: remembered, so that they read back (linux/tcp.h, linux/in.h, linux/in6.h). */
const TCP_ONLY: readonly Option[] = [
  ...[1, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 18, 23, 25, 30].map((name): Option => [IPPROTO_TCP, name]),
  ...[1, 2, 10, 11, 15, 24].map((name): Option => [IPPROTO_IP, name]),
  ...[16, 23, 25, 26, 67].map((name): Option => [IPPROTO_IPV6, name]),
  [SOL_SOCKET, constants.SO_REUSEPORT],
  [SOL_SOCKET, constants.SO_TXREHASH],
  [SOL_SOCKET, constants.SO_PROTOCOL], // multipath TCP
];

const USUAL: ReadonlySet<number> = new Set(TCP_ONLY.map(([level, name]) => optionKey(level, name)));

/** Whether an option that only TCP has is looked for on each socket on which any of them was set. */
export function isUsual(level: number, name: number): boolean {
  return USUAL.has(optionKey(level, name));
}

/** What a Unix socket may have in flight. Its default of 208 KiB holds 278 one-byte writes, so that a program which
 *  relies on TCP's megabytes and pipelines without reading would stand still. */
const SEND_BUFFER_BYTES = 4 << 20;

const LOOPBACK_INDEX = 1; // net/flow.h LOOPBACK_IFINDEX, of each network namespace

function tryGet(fd: BorrowedFd, [level, name]: Option): Uint8Array | undefined {
  try {
    return getsockopt(fd, level, name);
  } catch (error) {
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

/** What tells a network namespace from others. @returns undefined where the kernel does not say */
function networkOf(fd: BorrowedFd): Uint8Array | undefined {
  try {
    return getsockopt(fd, SOL_SOCKET, constants.SO_NETNS_COOKIE, 8); // it takes no more room than that
  } catch (error) {
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

type Default = { readonly option: Option; readonly value: Uint8Array };

/** A TCP socket as it is born, and what this kernel says of it. */
export class Template implements Disposable {
  readonly fd: OwnedFd;
  /** Which network namespace is ours. */
  readonly network: Uint8Array | undefined;
  readonly #common: readonly Default[];
  readonly #rare: readonly Default[];
  readonly #tcpOnly: readonly Default[];

  constructor(domain: Domain) {
    this.fd = socket(familyOf(domain), constants.SOCK_STREAM);
    this.network = networkOf(this.fd);
    this.#common = valuesOf(this.fd, COMMON);
    this.#rare = valuesOf(this.fd, RARE);
    this.#tcpOnly = valuesOf(this.fd, TCP_ONLY);
  }

  /** Whether a socket is of our network namespace, where our loopback addresses are; true where the kernel does not
   *  tell (before Linux 5.14). */
  isOfOurNetwork(socket: BorrowedFd): boolean {
    return this.network === undefined || networkOf(socket)?.every((byte, at) => byte === this.network?.[at]) === true;
  }

  /** Options that a Unix socket understands and connect() looks for, as a TCP socket is born with them. */
  get commonDefaults(): readonly Default[] {
    return this.#common;
  }

  /** Those options of `fd` that its program has changed and a Unix socket understands.
   *  @param isTouched  false where nothing is remembered of it: the rare ones are as they were born then */
  commonOptions(fd: BorrowedFd, isTouched = true): Default[] {
    return changed(fd, isTouched ? [...this.#common, ...this.#rare] : this.#common);
  }

  /** What all options that a Unix socket understands are on `fd`. */
  commonValues(fd: BorrowedFd): Default[] {
    return valuesOf(
      fd,
      [...this.#common, ...this.#rare].map(({ option }) => option),
    );
  }

  /** Those that it has changed and only TCP has, by optionKey(). @param unusual  which to look for, but for the usual ones */
  tcpOptions(fd: BorrowedFd, unusual: ReadonlySet<number>): OptionValues {
    const others = valuesOf(this.fd, [...unusual].map(keyOption));
    return new Map(
      changed(fd, [...this.#tcpOnly, ...others]).map(({ option: [level, name], value }) => [
        optionKey(level, name),
        value,
      ]),
    );
  }

  [Symbol.dispose](): void {
    this.fd.close();
  }
}

export type { Default as OptionValue };

/** An option that this kernel or domain lacks is left out. */
function valuesOf(fd: BorrowedFd, options: readonly Option[]): Default[] {
  return options.flatMap((option) => {
    const value = tryGet(fd, option);
    return value === undefined ? [] : [{ option, value }];
  });
}

/** Which of them are different by now. */
export function changed(fd: BorrowedFd, defaults: readonly Default[]): Default[] {
  const found: Default[] = [];
  for (const { option, value } of defaults) {
    if (hasOptionValue(fd, option[0], option[1], value)) continue;
    const actual = tryGet(fd, option);
    if (actual !== undefined) found.push({ option, value: actual });
  }
  return found;
}

/** Makes a fresh Unix socket ready to stand for a TCP one. */
export function dressUnixSocket(fd: BorrowedFd, options: readonly Default[]): void {
  raiseSendBuffer(fd);
  setOptions(fd, options);
}

/** Those that it does not take stay as they are. */
export function setOptions(fd: BorrowedFd, options: readonly Default[]): void {
  for (const { option, value } of options) trySet(fd, option, asItIsSet(option, value));
}

/** The kernel doubles the size of a buffer, which is what reads back. */
export function asItIsSet([level, name]: Option, value: Uint8Array): Uint8Array {
  if (level !== SOL_SOCKET || name !== constants.SO_RCVBUF) return value;
  const bytes = new DataView(value.buffer, value.byteOffset).getInt32(0, true) / 2;
  return new Uint8Array(Int32Array.of(bytes).buffer);
}

/** Whether the program wants to be told when the kernel has done with what it sent (MSG_ZEROCOPY), which no Unix socket
 *  tells: it would wait for ever. */
export function wantsCompletions(fd: BorrowedFd): boolean {
  return getIntOption(fd, SOL_SOCKET, constants.SO_ZEROCOPY) !== 0;
}

/** Whether it is bound to a network interface which the connections of this machine to itself do not come over. */
export function isBoundToOtherInterface(fd: BorrowedFd): boolean {
  const index = getIntOption(fd, SOL_SOCKET, constants.SO_BINDTOIFINDEX);
  return index !== 0 && index !== LOOPBACK_INDEX;
}

/** Until it turns out that CAP_NET_ADMIN is missing: a refusal for each connection would cost more than the option. */
let mayForce = true;

function raiseSendBuffer(fd: BorrowedFd): void {
  const half = SEND_BUFFER_BYTES / 2; // the kernel doubles it
  mayForce &&= trySet(fd, [SOL_SOCKET, constants.SO_SNDBUFFORCE], half);
  if (!mayForce) trySet(fd, [SOL_SOCKET, constants.SO_SNDBUF], half);
}

/** What dressUnixSocket() sets, once it has been called. */
export function sendBufferOption(): { readonly name: number; readonly bytes: number } {
  return { name: mayForce ? constants.SO_SNDBUFFORCE : constants.SO_SNDBUF, bytes: SEND_BUFFER_BYTES / 2 };
}

function trySet(fd: BorrowedFd, [level, name]: Option, value: Uint8Array | number): boolean {
  try {
    setsockopt(fd, level, name, value);
    return true;
  } catch (error) {
    if (error instanceof SyscallError) return false;
    throw error;
  }
}

/** What an option reads back as once it was set, by domain, option and value: programs set the same on each socket. */
const rehearsed: Map<string, Uint8Array> = new Map();
const MAX_REHEARSED = 256;

/** Sets an option on a TCP socket made for it. @returns what then reads back; undefined where it cannot be read
 *  @throws SyscallError as a TCP socket would: ENOPROTOOPT, EINVAL, EPERM */
export function rehearseOption(domain: Domain, [level, name]: Option, value: Uint8Array): Uint8Array | undefined {
  const isNumber = value.length === 4; // others may depend on more, as TCP_CONGESTION does on what is loaded
  const key = isNumber ? `${domain} ${level} ${name} ${value.join(" ")}` : "";
  const known = rehearsed.get(key);
  if (known !== undefined) return known;
  using scratch = socket(familyOf(domain), constants.SOCK_STREAM);
  setsockopt(scratch, level, name, value);
  const result = tryGet(scratch, [level, name]);
  if (isNumber && result !== undefined && rehearsed.size < MAX_REHEARSED) rehearsed.set(key, result);
  return result;
}
