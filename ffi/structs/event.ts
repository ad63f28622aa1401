/** Structs of epoll(7), poll(2) and the clock. */
import { defineStruct, type Struct } from "../struct.ts";

// sys/epoll.h: packed on x86-64 only, so that 32-bit programs see the same layout
export const EPOLL_EVENT: Struct<{ events: "u32"; data: "u64" }> = defineStruct(
  "struct epoll_event",
  { events: "u32", data: "u64" },
  { packed: process.arch === "x64" },
);

// poll.h; two 16-bit fields make `events` and `revents`
export const POLLFD: Struct<{ fd: "i32"; events: "u16"; revents: "u16" }> = defineStruct("struct pollfd", {
  fd: "i32",
  events: "u16",
  revents: "u16",
});

export const TIMESPEC: Struct<{ tv_sec: "size"; tv_nsec: "size" }> = defineStruct("struct timespec", {
  tv_sec: "size",
  tv_nsec: "size",
});
