/**
 * The seccomp filter of a wrapped program. Only calls that set a connection up or look at its addresses and options
 * come to the supervisor; read, write, send, recv and epoll_wait are let through by number alone, which the kernel caches,
 * so data moves at native speed. bind(2) is trapped and let through: the program binds its own TCP socket, so
 * permissions, port 0 and EADDRINUSE are the kernel's. Pure.
 */
import { constants, errno } from "../../ffi/mod.ts";
import { assemble, type Instruction } from "./bpf.ts";
import { SELDOM_OPTIONS } from "./seldom-options.ts";
import type { Machine } from "./syscalls.ts";

const { SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_USER_NOTIF } = constants;

// struct seccomp_data: nr, arch, instruction pointer, six 64-bit arguments. Levels, names and flags are C ints, so
// their low words (little-endian) are what the call itself looks at.
const NR = 0;
const ARCH = 4;
const argument = (index: number): number => 16 + index * 8;

const ALLOW: Instruction = { op: "return", value: SECCOMP_RET_ALLOW };
const ASK: Instruction = { op: "return", value: SECCOMP_RET_USER_NOTIF };
const ENOSYS: Instruction = { op: "return", value: SECCOMP_RET_ERRNO | errno.ENOSYS };

/** Options at SOL_SOCKET that a Unix socket answers differently from a TCP one. */
const SOCKET_OPTIONS = [
  constants.SO_REUSEPORT,
  constants.SO_PROTOCOL,
  constants.SO_DOMAIN,
  constants.SO_ZEROCOPY,
  constants.SO_TXREHASH,
];

export type FilterOptions = {
  /** "allow": rings that only move data are fast; connections that a ring makes or accepts are not handed off. */
  readonly ioUring: "refuse" | "allow";
};

export function filterInstructions(machine: Machine, { ioUring }: FilterOptions): Instruction[] {
  const { numbers } = machine;
  return [
    { op: "load", offset: ARCH },
    { op: "equal", value: machine.auditArch, no: "compat" }, // numbers mean something else on another machine
    { op: "load", offset: NR },
    ...refuseX32(machine.x32Bit),
    { op: "equal", value: numbers.accept4, yes: "ask" },
    { op: "equal", value: numbers.accept, yes: "ask" },
    { op: "equal", value: numbers.connect, yes: "ask" }, // the family is in memory, which a filter cannot see
    { op: "equal", value: numbers.listen, yes: "ask" },
    { op: "equal", value: numbers.bind, yes: "ask" },
    { op: "equal", value: numbers.getsockname, yes: "ask" },
    { op: "equal", value: numbers.getpeername, yes: "ask" },
    { op: "equal", value: numbers.setsockopt, yes: "set-option" },
    { op: "equal", value: numbers.getsockopt, yes: "option" },
    { op: "equal", value: numbers.sendto, yes: "sendto" },
    { op: "equal", value: numbers.epoll_create1, yes: "ask" }, // to know of each set, so that connect() need not search
    { op: "equal", value: numbers.epoll_create, yes: "ask" },
    ...refuseRings(machine, ioUring),
    ALLOW,

    { op: "label", name: "sendto" },
    { op: "load", offset: argument(3) },
    { op: "anyBit", value: constants.MSG_FASTOPEN, yes: "ask" }, // connects; every other sendto is data
    ALLOW,

    { op: "label", name: "set-option" },
    { op: "load", offset: argument(1) },
    { op: "equal", value: constants.SOL_SOCKET, no: "level" },
    { op: "load", offset: argument(2) },
    ...SELDOM_OPTIONS.map((value): Instruction => ({ op: "equal", value, yes: "ask" })),

    { op: "label", name: "option" },
    { op: "load", offset: argument(1) },
    { op: "label", name: "level" },
    { op: "equal", value: constants.IPPROTO_TCP, yes: "ask" },
    { op: "equal", value: constants.IPPROTO_IP, yes: "ask" },
    { op: "equal", value: constants.IPPROTO_IPV6, yes: "ask" },
    { op: "equal", value: constants.SOL_SOCKET, no: "allow" },
    { op: "load", offset: argument(2) },
    ...SOCKET_OPTIONS.map((value): Instruction => ({ op: "equal", value, yes: "ask" })),
    { op: "label", name: "allow" },
    ALLOW,

    { op: "label", name: "compat" },
    { op: "equal", value: machine.compat.auditArch, no: "enosys" }, // A is still the architecture
    { op: "load", offset: NR },
    ...refuseRings(machine, ioUring), // the same number on every machine
    ...machine.compat.socketCalls.flatMap(([first, last], index) => askBetween(first, last, `after${index}`)),
    ALLOW,

    { op: "label", name: "ask" },
    ASK,
    { op: "label", name: "enosys" },
    ENOSYS,
  ];
}

/** A ring would accept and connect behind our back. */
function refuseRings({ numbers }: Machine, ioUring: FilterOptions["ioUring"]): Instruction[] {
  return ioUring === "allow" ? [] : [{ op: "equal", value: numbers.io_uring_setup, yes: "enosys" }];
}

function refuseX32(bit: number): Instruction[] {
  return bit === 0 ? [] : [{ op: "atLeast", value: bit, yes: "enosys" }];
}

function askBetween(first: number, last: number, after: string): Instruction[] {
  return [
    { op: "atLeast", value: first, no: after },
    { op: "above", value: last, no: "ask" },
    { op: "label", name: after },
  ];
}

/** What spawn() installs. */
export function filterProgram(machine: Machine, options: FilterOptions): Uint8Array<ArrayBuffer> {
  return assemble(filterInstructions(machine, options));
}
