/** Freezes a process as a container runtime or `systemctl freeze` does, by cgroup v2, in a cgroup of its own. */
import "../../lib/util/disposable-stack.ts";
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { waitUntil } from "./broker.ts";
import { type Requirement, requires } from "./requires.ts";

/** The cgroup that we are in; undefined where cgroup v2 is not mounted, or its mount does not show us. */
function ownCgroup(): string | undefined {
  const [, path = "/"] = /^0::(.*)$/m.exec(readFileSync("/proc/self/cgroup", "latin1")) ?? [];
  const mounts = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]; // beside version 1, or alone
  return mounts.map((mount) => join(mount, path)).find((folder) => existsSync(join(folder, "cgroup.procs")));
}

let made = 0;

/** A cgroup inside of `home`. */
function makeCgroup(home: string): string {
  made += 1;
  const folder = join(home, `shmlink-test-${process.pid}-${made}`);
  mkdirSync(folder);
  return folder;
}

/** @returns what lets it go on, in the cgroup that we are in */
export async function freeze(pid: number): Promise<Disposable> {
  const home = ownCgroup() ?? "";
  using stack = new DisposableStack();
  const folder = makeCgroup(home);
  stack.defer(() => rmdirSync(folder));
  const write = (file: string, text: string): void => writeFileSync(join(folder, file), text);
  write("cgroup.procs", String(pid));
  stack.defer(() => writeFileSync(join(home, "cgroup.procs"), String(pid)));
  write("cgroup.freeze", "1");
  stack.defer(() => write("cgroup.freeze", "0"));
  const events = (): string => readFileSync(join(folder, "cgroup.events"), "latin1");
  await waitUntil(() => events().includes("frozen 1"), `process ${pid} to be frozen`);
  return stack.move();
}

function canFreeze(): boolean {
  try {
    const folder = makeCgroup(ownCgroup() ?? "/nowhere");
    const has = existsSync(join(folder, "cgroup.freeze"));
    rmdirSync(folder);
    return has;
  } catch {
    return false;
  }
}

export const freezes: Requirement = requires.feature(canFreeze(), "it needs root with cgroup v2");
