/** Sockets that supervisors have made before anybody needs them. */
import { readFileSync } from "node:fs";

/** Names of clients' ends at the server of that port on 127.0.0.1 which nobody has connected yet: lines of /proc/net/unix. */
export function unusedNames(port: string): string[] {
  const lines = readFileSync("/proc/net/unix", "latin1").split("\n");
  const isFree = (line: string): boolean => line.split(/\s+/)[5] === "01"; // SS_UNCONNECTED
  return lines.filter((line) => line.endsWith(`/127.0.0.1-${port}`) && isFree(line));
}
