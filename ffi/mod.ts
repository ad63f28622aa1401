/** The only door to the kernel: safe functions and types. No pointer, no -1 and no errno global leaves this folder. */
export type { BackendName } from "./backend.ts";
export * as constants from "./constants.ts";
export * as errno from "./errno.ts";
export { errnoName, SyscallError } from "./errno.ts";
export { type BorrowedFd, borrowFd, duplicateFd, OwnedFd } from "./fd.ts";
export { loaded } from "./load.ts";
export { Mapping, mapShared } from "./mapping.ts";
export * from "./sys/address.ts";
export * from "./sys/cmsg.ts";
export * from "./sys/epoll.ts";
export * from "./sys/io.ts";
export * from "./sys/memfd.ts";
export * from "./sys/process.ts";
export * from "./sys/seccomp.ts";
export * from "./sys/signal.ts";
export * from "./sys/socket.ts";
export * from "./sys/spawn.ts";
export * from "./sys/tracee-memory.ts";
