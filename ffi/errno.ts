/** Error numbers of Linux (asm-generic/errno-base.h and errno.h: the same on x86-64 and arm64). */

// biome-ignore format: as in the header
const NAMES: Readonly<Record<number, readonly [name: string, text: string]>> = {
  1: ["EPERM", "operation not permitted"], 2: ["ENOENT", "no such file or directory"], 3: ["ESRCH", "no such process"],
  4: ["EINTR", "interrupted system call"], 5: ["EIO", "input/output error"], 6: ["ENXIO", "no such device or address"],
  7: ["E2BIG", "argument list too long"], 8: ["ENOEXEC", "exec format error"], 9: ["EBADF", "bad file descriptor"],
  10: ["ECHILD", "no child processes"], 11: ["EAGAIN", "resource temporarily unavailable"], 12: ["ENOMEM", "cannot allocate memory"],
  13: ["EACCES", "permission denied"], 14: ["EFAULT", "bad address"], 16: ["EBUSY", "device or resource busy"],
  17: ["EEXIST", "file exists"], 18: ["EXDEV", "invalid cross-device link"], 19: ["ENODEV", "no such device"],
  20: ["ENOTDIR", "not a directory"], 21: ["EISDIR", "is a directory"], 22: ["EINVAL", "invalid argument"],
  23: ["ENFILE", "too many open files in system"], 24: ["EMFILE", "too many open files"], 25: ["ENOTTY", "inappropriate ioctl for device"],
  26: ["ETXTBSY", "text file busy"], 27: ["EFBIG", "file too large"], 28: ["ENOSPC", "no space left on device"],
  29: ["ESPIPE", "illegal seek"], 30: ["EROFS", "read-only file system"], 31: ["EMLINK", "too many links"],
  32: ["EPIPE", "broken pipe"], 33: ["EDOM", "argument out of domain"], 34: ["ERANGE", "result too large"],
  35: ["EDEADLK", "resource deadlock avoided"], 36: ["ENAMETOOLONG", "file name too long"], 38: ["ENOSYS", "function not implemented"],
  39: ["ENOTEMPTY", "directory not empty"], 40: ["ELOOP", "too many levels of symbolic links"], 61: ["ENODATA", "no data available"],
  71: ["EPROTO", "protocol error"],
  75: ["EOVERFLOW", "value too large for defined data type"], 88: ["ENOTSOCK", "socket operation on non-socket"],
  89: ["EDESTADDRREQ", "destination address required"], 90: ["EMSGSIZE", "message too long"], 91: ["EPROTOTYPE", "protocol wrong type for socket"],
  92: ["ENOPROTOOPT", "protocol not available"], 93: ["EPROTONOSUPPORT", "protocol not supported"], 95: ["EOPNOTSUPP", "operation not supported"],
  97: ["EAFNOSUPPORT", "address family not supported"], 98: ["EADDRINUSE", "address already in use"],
  99: ["EADDRNOTAVAIL", "cannot assign requested address"], 100: ["ENETDOWN", "network is down"], 101: ["ENETUNREACH", "network is unreachable"],
  103: ["ECONNABORTED", "software caused connection abort"], 104: ["ECONNRESET", "connection reset by peer"], 105: ["ENOBUFS", "no buffer space available"],
  106: ["EISCONN", "socket is already connected"], 107: ["ENOTCONN", "socket is not connected"], 108: ["ESHUTDOWN", "endpoint has been shut down"],
  109: ["ETOOMANYREFS", "too many descriptors in flight"], 110: ["ETIMEDOUT", "connection timed out"], 111: ["ECONNREFUSED", "connection refused"],
  113: ["EHOSTUNREACH", "no route to host"], 114: ["EALREADY", "operation already in progress"], 115: ["EINPROGRESS", "operation now in progress"],
  116: ["ESTALE", "stale file handle"], 122: ["EDQUOT", "disk quota exceeded"], 125: ["ECANCELED", "operation canceled"],
};

export const EPERM = 1;
export const ENOENT = 2;
export const ESRCH = 3;
export const EINTR = 4;
export const ENOEXEC = 8;
export const EBADF = 9;
export const ECHILD = 10;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EACCES = 13;
export const EFAULT = 14;
export const EBUSY = 16;
export const EEXIST = 17;
export const ENOTDIR = 20;
export const EINVAL = 22;
export const ENFILE = 23;
export const EMFILE = 24;
export const ENOTTY = 25;
export const ENOSPC = 28;
export const EPIPE = 32;
export const ENOSYS = 38;
export const ENODATA = 61;
export const ENOTSOCK = 88;
export const ENOPROTOOPT = 92;
export const EPROTOTYPE = 91;
export const EOPNOTSUPP = 95;
export const EAFNOSUPPORT = 97;
export const EADDRINUSE = 98;
export const ECONNRESET = 104;
export const EISCONN = 106;
export const ENOTCONN = 107;
export const ETOOMANYREFS = 109;
export const ETIMEDOUT = 110;
export const ECONNREFUSED = 111;
export const EINPROGRESS = 115;

/** "ENOENT" for 2; "errno 4242" for a number that is not in the table. */
export function errnoName(errno: number): string {
  return NAMES[errno]?.[0] ?? `errno ${errno}`;
}

/** "connection refused (ECONNREFUSED)" for that name; undefined for what is no name of the table. */
export function describeErrno(name: string): string | undefined {
  const text = Object.values(NAMES).find(([known]) => known === name)?.[1];
  return text === undefined ? undefined : `${text} (${name})`;
}

/** The system refused. `errno` is positive, as in errno(3). */
export class SyscallError extends Error {
  override readonly name = "SyscallError";
  readonly syscall: string;
  readonly errno: number;
  readonly code: string;
  readonly path: string | undefined;

  /** @param subject  what the call was about, for the message: a path, a name, a number */
  constructor(syscall: string, errno: number, subject?: string) {
    const text = NAMES[errno]?.[1] ?? "unknown error";
    super(`${syscall}${subject === undefined ? "" : ` "${subject}"`}: ${text} (${errnoName(errno)})`);
    this.syscall = syscall;
    this.errno = errno;
    this.code = errnoName(errno);
    this.path = subject;
  }
}

/** Passes a result >= 0 on and throws SyscallError for -errno. */
export function check(result: number, syscall: string, subject?: string): number {
  if (result < 0) throw new SyscallError(syscall, -result, subject);
  return result;
}

/** Repeats `call` while a signal interrupts it (EINTR). */
export function retry(call: () => number): number {
  for (;;) {
    const result = call();
    if (result !== -EINTR) return result;
  }
}
