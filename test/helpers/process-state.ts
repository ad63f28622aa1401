/** What the kernel says of another process: whether it sleeps, until when, and what it has used. */
import { readdirSync, readFileSync } from "node:fs";
import { type Requirement, requires } from "./requires.ts";

function read(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return ""; // a thread that has ended
  }
}

/** The processes that the first thread of `pid` has started and that are there, and those that these have. */
export function descendants(pid: number): number[] {
  const children = read(`/proc/${pid}/task/${pid}/children`).split(" ").filter(Boolean).map(Number);
  return children.flatMap((child) => [child, ...descendants(child)]);
}

/** Waits until the first thread of `pid` sleeps and the process has used no processor time for a while, or has ended: one
 *  that spins never gets there. */
export async function quiet(pid: number): Promise<void> {
  let before = "";
  for (let same = 0; same < 5; ) {
    const fields = read(`/proc/${pid}/stat`).split(") ")[1]?.split(" ") ?? ["Z"];
    if (fields[0] === "Z") return;
    const now = `${fields[0]} ${fields[11]} ${fields[12]}`; // state, user and system time
    same = now === before && now.startsWith("S") ? same + 1 : 0;
    before = now;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Waits until the first thread of `pid` has slept for a second and more without being woken: a runtime may have things to do
 *  for a while after its start, and on a busy machine for longer. One that is woken again and again never gets there. */
export async function sleepsThrough(pid: number): Promise<void> {
  const wakeUps = (): string | undefined => /^voluntary_ctxt_switches:.*/m.exec(read(`/proc/${pid}/status`))?.[0];
  for (let tries = 0; tries < 25; tries++) {
    const before = wakeUps();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    if (before !== undefined && wakeUps() === before) return;
  }
  throw new Error(`Process ${pid} is woken again and again`);
}

/** Nanoseconds of processor time that all threads of `pid` have used. */
export function processorTime(pid: number): number {
  const threads = readdirSync(`/proc/${pid}/task`);
  return threads.reduce((sum, thread) => sum + Number(read(`/proc/${pid}/task/${thread}/schedstat`).split(" ")[0]), 0);
}

const NONE = "0x0";
const INFINITE = "0xffffffff";
type Sleep = readonly [name: string, timeoutArgument: number | undefined, none: string];
const SLEEPS: Record<string, Readonly<Record<number, Sleep>>> = {
  x64: {
    7: ["poll", 2, INFINITE],
    16: ["ioctl", undefined, NONE],
    42: ["connect", undefined, NONE],
    45: ["recvfrom", undefined, NONE],
    232: ["epoll_wait", 3, INFINITE],
    271: ["ppoll", 2, NONE],
    281: ["epoll_pwait", 3, INFINITE],
    441: ["epoll_pwait2", 3, NONE],
  },
  arm64: {
    22: ["epoll_pwait", 3, INFINITE],
    73: ["ppoll", 2, NONE],
    203: ["connect", undefined, NONE],
    207: ["recvfrom", undefined, NONE],
    441: ["epoll_pwait2", 3, NONE],
  },
};

/** What sleepOf() needs. */
export const tellsSleeps: Requirement = requires.feature(
  sleepOf(process.pid) !== undefined,
  "this kernel does not tell what a process sleeps in",
);

/** The system call that the first thread of `pid` is in, by proc_pid_syscall(5), and whether nothing but an event will end it.
 *  @returns undefined where the kernel does not tell */
export function sleepOf(pid: number): { readonly name: string; readonly endless: boolean } | undefined {
  const text = read(`/proc/${pid}/syscall`);
  if (text === "") return undefined;
  const [number = "", ...args] = text.trim().split(" ");
  const [name, timeout, none] = SLEEPS[process.arch]?.[Number(number)] ?? [text, -1, NONE];
  const value = timeout === undefined ? none : (args[timeout] ?? "");
  return { name, endless: value === none || (none === INFINITE && value === "0xffffffffffffffff") };
}
