/** The descriptors this process has open, by number and target; timers and sockets of the runtime included. */
import { readdirSync, readlinkSync } from "node:fs";

export function openFds(): string[] {
  const entries: string[] = [];
  for (const name of readdirSync("/proc/self/fd")) {
    try {
      entries.push(`${name} ${readlinkSync(`/proc/self/fd/${name}`)}`);
    } catch {
      // the descriptor of the directory itself
    }
  }
  return entries.sort();
}
