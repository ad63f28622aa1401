/**
 * Which two processors a benchmark uses: two cores, not the two threads of one, and behind one cache where the machine has
 * several. `SHMLINK_BENCH_CPUS=4,6` says otherwise.
 */
import { readFileSync } from "node:fs";

/** Of both sides; the same one twice on a machine with a single processor. */
export type Cpus = readonly [number, number];

export type Processor = {
  readonly cpu: number;
  /** The processors that are threads of its core, and those behind its last cache, as the kernel writes lists. */
  readonly core: string;
  readonly cache: string;
};

const SYSTEM = "/sys/devices/system/cpu/";

/** "0-2,5" as in proc_pid_status(5), Cpus_allowed_list. */
export function readCpuList(list: string): number[] {
  return list.split(",").flatMap((range) => {
    const [first = Number.NaN, last = first] = range.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
}

/** The first, and the nearest to it that is a core of its own. */
export function choosePair([first, ...rest]: readonly Processor[]): Cpus {
  if (first === undefined) throw new RangeError("Cannot measure without a processor");
  const cores = rest.filter(({ core }) => core !== first.core);
  const second = cores.find(({ cache }) => cache === first.cache) ?? cores[0] ?? rest[0] ?? first;
  return [first.cpu, second.cpu];
}

function read(path: string, missing: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return missing; // no sysfs, or a virtual machine that does not say
  }
}

function allowed(): Processor[] {
  const list = /^Cpus_allowed_list:\s*(.*)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0";
  return readCpuList(list).map((cpu) => ({
    cpu,
    core: read(`${SYSTEM}cpu${cpu}/topology/thread_siblings_list`, String(cpu)),
    cache: read(`${SYSTEM}cpu${cpu}/cache/index3/shared_cpu_list`, ""),
  }));
}

function choose(): Cpus {
  const asked = process.env["SHMLINK_BENCH_CPUS"];
  if (asked === undefined) return choosePair(allowed());
  const [one = Number.NaN, other = one] = asked.split(",").map(Number);
  if (!Number.isInteger(one) || !Number.isInteger(other))
    throw new Error(`Cannot use SHMLINK_BENCH_CPUS "${asked}": name two processors, as in 4,6`);
  return [one, other];
}

export const CPUS: Cpus = choose();
export const TWO_CPUS: boolean = CPUS[0] !== CPUS[1];

/** A command that keeps to a processor from its start on, and all that it starts. */
export function pinned(cpu: number, argv: readonly string[]): string[] {
  return ["taskset", "--cpu-list", String(cpu), ...argv];
}
