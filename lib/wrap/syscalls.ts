/** The calls that the filter knows, by name, and their numbers on each machine (the kernel's syscall tables). Pure. */
import { constants } from "../../ffi/mod.ts";

/** Those that a handler answers. */
export type TrappedCall =
  | "bind"
  | "listen"
  | "connect"
  | "accept"
  | "accept4"
  | "getsockname"
  | "getpeername"
  | "setsockopt"
  | "getsockopt"
  | "sendto"
  | "epoll_create"
  | "epoll_create1";

export type Machine = {
  readonly auditArch: number;
  readonly numbers: Readonly<Record<TrappedCall | "io_uring_setup", number>>;
  /** The 32-bit machine whose programs this kernel may also run, and the numbers of its socket calls as ranges. */
  readonly compat: {
    readonly auditArch: number;
    readonly socketCalls: readonly (readonly [first: number, last: number])[];
  };
  /** Set in the number of a call of the x32 machine; 0 where there is none. */
  readonly x32Bit: number;
};

const X64: Machine = {
  auditArch: constants.AUDIT_ARCH_X86_64,
  // biome-ignore format: a table
  numbers: {
    bind: 49, listen: 50, connect: 42, accept: 43, accept4: 288, getsockname: 51, getpeername: 52,
    setsockopt: 54, getsockopt: 55, sendto: 44, epoll_create: 213, epoll_create1: 291, io_uring_setup: 425,
  },
  // i386: socketcall(2), then the direct calls from bind to accept4, getsockopt, setsockopt, getsockname, getpeername
  compat: {
    auditArch: 0x40000003,
    socketCalls: [
      [102, 102],
      [361, 368],
    ],
  },
  x32Bit: 0x40000000,
};

const ARM64: Machine = {
  auditArch: constants.AUDIT_ARCH_AARCH64,
  // biome-ignore format: a table; without epoll_create
  numbers: {
    bind: 200, listen: 201, connect: 203, accept: 202, accept4: 242, getsockname: 204, getpeername: 205,
    setsockopt: 208, getsockopt: 209, sendto: 206, epoll_create: 20, epoll_create1: 20, io_uring_setup: 425,
  },
  // arm: bind to getpeername; setsockopt, getsockopt; accept4
  compat: {
    auditArch: 0x40000028,
    socketCalls: [
      [282, 287],
      [294, 295],
      [366, 366],
    ],
  },
  x32Bit: 0,
};

/** @throws Error for another machine than x64 and arm64 */
export function machineFor(arch: string): Machine {
  if (arch === "x64") return X64;
  if (arch === "arm64") return ARM64;
  throw new Error(`Cannot filter system calls on "${arch}": x64 and arm64 are known`);
}
