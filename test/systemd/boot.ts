/** Boots a real systemd as PID 1 of namespaces of its own, runs a job in it, and reads what the job said. */
import { join } from "node:path";
import { type Requirement, requires } from "../helpers/requires.ts";

const REPOSITORY = join(import.meta.dir, "../..");
export const BOOT_TIMEOUT_MS = 150_000;

/** Containers often lack these even for root. */
function canBoot(): boolean {
  if (process.getuid?.() !== 0) return false;
  const script = `
    cgroups=/sys/fs/cgroup; [ -d $cgroups/unified ] && cgroups=$cgroups/unified
    [ -e $cgroups/cgroup.procs ] && mkdir $cgroups/shmlink-probe-$$ || exit 1
    rmdir $cgroups/shmlink-probe-$$
    exec unshare --pid --fork --mount --cgroup sh -c '
      mount -t tmpfs t /tmp && cd /tmp && mkdir u w r && mount -t overlay -o lowerdir=/,upperdir=u,workdir=w o r'`;
  const { exitCode } = Bun.spawnSync(["sh", "-c", script], { stderr: "ignore", stdout: "ignore" });
  return exitCode === 0;
}

export const BOOT_NEEDS: readonly Requirement[] = [
  requires.file("/lib/systemd/systemd", "systemd"),
  requires.file("/lib/systemd/system/dbus.service", "dbus"),
  requires.file("/usr/lib/systemd/user/dbus.service", "dbus-user-session"),
  requires.program("unshare", "util-linux"),
  requires.feature(canBoot(), "it needs root with cgroup v2, namespaces and overlayfs, to boot a systemd of its own"),
];

/** Boots systemd with a job of this folder. @returns its lines "name=value" @throws Error with all output when it did not end well */
export async function boot(job: string): Promise<Map<string, string>> {
  const script = join(import.meta.dir, "real-systemd.sh");
  const child = Bun.spawn(["bash", script, REPOSITORY, `/shmlink/test/systemd/${job}`], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const output = `${await new Response(child.stdout).text()}${await new Response(child.stderr).text()}`;
  await child.exited;
  const values = new Map<string, string>();
  for (const line of output.split("\n")) {
    const at = line.indexOf("=");
    if (at > 0) values.set(line.slice(0, at), line.slice(at + 1));
  }
  if (!output.includes("systemd ended with 0") || !values.has("stopped")) throw new Error(output);
  return values;
}
