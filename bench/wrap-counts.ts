/** What two supervisors do for a connection, counted by the kernel: system calls, and how often it took them off a processor. */
import { spawn, spawnSync } from "node:child_process";
import { type Course, type Kind, Load } from "./wrap-load.ts";
import type { Bench } from "./wrap-stage.ts";

const EVENTS = ["raw_syscalls:sys_enter", "context-switches"] as const;
const WARM_UP_MS = 2000;
const COUNTED_MS = 1000;

export type Counts = { readonly calls: number; readonly switches: number };

/** A sentence where perf(1) cannot count here. */
export function cannotCount(): string | undefined {
  const { status, stderr } = spawnSync("perf", ["stat", "-e", EVENTS.join(","), "true"], { encoding: "utf8" });
  if (status === 0) return undefined;
  return status === null ? "perf is not installed (Debian: linux-perf)" : stderr.trim().split("\n")[0];
}

/** @param server  the process that supervises the server @returns for one connection, of both supervisors together */
export async function countConnections(bench: Bench, what: Kind, course: Course, server: number): Promise<Counts> {
  using load = new Load(bench, course, what);
  await load.turn(WARM_UP_MS);
  const perf = spawn("perf", ["stat", "-x,", "-e", EVENTS.join(","), "-p", `${load.pid},${server}`], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let text = "";
  perf.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
  });
  const ended = new Promise((resolve) => perf.on("close", resolve));
  await load.turn(COUNTED_MS); // perf attaches in the first of its moments: what that misses is small beside a second
  perf.kill("SIGINT");
  await ended;
  const connections = ((load.rates.at(-1) ?? Number.NaN) * COUNTED_MS) / 1000;
  const [calls = Number.NaN, switches = Number.NaN] = text.trim().split("\n").map(Number.parseFloat);
  return { calls: calls / connections, switches: switches / connections };
}
