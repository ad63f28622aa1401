import { expect } from "bun:test";
import { join } from "node:path";
import { requires } from "../helpers/requires.ts";

const REPOSITORY = join(import.meta.dir, "../..");
const TEST_TIMEOUT_MS = 150_000;

/** Containers often lack these even for root. */
function canBoot(): boolean {
  if (process.getuid?.() !== 0) return false;
  const script = `
    cgroups=/sys/fs/cgroup; [ -d $cgroups/unified ] && cgroups=$cgroups/unified
    [ -e $cgroups/cgroup.procs ] && mkdir $cgroups/shmlink-probe-$$ || exit 1
    rmdir $cgroups/shmlink-probe-$$
    exec unshare --pid --fork --mount --cgroup sh -c '
      d=$(mktemp -d) && mount -t tmpfs t $d && cd $d && mkdir u w r && mount -t overlay -o lowerdir=/,upperdir=u,workdir=w o r'`;
  const { exitCode } = Bun.spawnSync(["sh", "-c", script], { stderr: "ignore", stdout: "ignore" });
  return exitCode === 0;
}

const NEEDS = [
  requires.file("/lib/systemd/systemd", "systemd"),
  requires.file("/lib/systemd/system/dbus.service", "dbus"),
  requires.file("/usr/lib/systemd/user/dbus.service", "dbus-user-session"),
  requires.program("unshare", "util-linux"),
  requires.feature(canBoot(), "it needs root with cgroup v2, namespaces and overlayfs, to boot a systemd of its own"),
];

/** Boots systemd with the job and reads what it printed. */
async function boot(job: string): Promise<Map<string, string>> {
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

type Listing = { readonly broker: { readonly owner: { readonly uid: number; readonly pid: number } } };

function owner(values: Map<string, string>, name: string): Listing["broker"]["owner"] {
  return (JSON.parse(values.get(name) ?? "null") as Listing).broker.owner;
}

requires.test(
  NEEDS,
  `shmlink ls starts the broker through the user's socket unit, which ends when idle and starts again`,
  async () => {
    const values = await boot("user-socket-job.sh");
    expect([values.get("socket"), values.get("before")]).toEqual(["active", "inactive"]);
    expect([values.get("ls1"), values.get("ls2")]).toEqual(["0", "0"]);
    expect(owner(values, "listing1")).toMatchObject({ uid: 4242, pid: Number(values.get("main1")) });
    expect(values.get("idle")).toBe("inactive success 0");
    expect(owner(values, "listing2")).toMatchObject({ uid: 4242, pid: Number(values.get("main2")) });
    expect(values.get("main1")).not.toBe(values.get("main2"));
    expect(values.get("mode")).toBe("700 600");
    expect(values.get("stopped")).toBe("success 0");
    expect(values.get("left")).toBe("");
  },
  TEST_TIMEOUT_MS,
);

requires.test(
  NEEDS,
  `the system's broker runs without any privilege, serves root, and refuses another user by the rule's name`,
  async () => {
    const values = await boot("system-socket-job.sh");
    expect(values.get("root")).toBe("0");
    expect(owner(values, "listing").pid).toBe(Number(values.get("main")));
    expect(Number(values.get("uid"))).toBeGreaterThanOrEqual(61184); // DynamicUser=
    expect(values.get("capabilities")).toBe("0000000000000000");
    expect(values.get("other")).toBe("1");
    expect(values.get("refusal")).toContain('no rule allows user 4242 to connect (rule "default")');
    expect(values.get("mode")).toBe("755 666");
    expect(values.get("stopped")).toBe("success");
  },
  TEST_TIMEOUT_MS,
);
