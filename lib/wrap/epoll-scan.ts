/**
 * Whether a descriptor is in an epoll set of its process. Such a registration belongs to the open file, not to the
 * number, so it would be lost when another socket takes the number: the program would wait for ever.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

const EPOLL = "anon_inode:[eventpoll]";

/** As far as /proc shows it; false where it does not. */
export function isWatchedByEpoll(thread: number, number: number): boolean {
  const wanted = new RegExp(`^tfd:\\s*${number | 0}\\s`, "m");
  return epollNumbers(thread).some((epoll) => wanted.test(fdinfo(thread, epoll)));
}

function epollNumbers(thread: number): string[] {
  try {
    return readdirSync(`/proc/${thread}/fd`).filter((fd) => linkOf(thread, fd) === EPOLL);
  } catch {
    return [];
  }
}

function linkOf(thread: number, fd: string): string {
  try {
    return readlinkSync(`/proc/${thread}/fd/${fd}`);
  } catch {
    return "";
  }
}

function fdinfo(thread: number, fd: string): string {
  try {
    return readFileSync(`/proc/${thread}/fdinfo/${fd}`, "latin1");
  } catch {
    return "";
  }
}
