/** bin/shmlink, the launcher, around an entry that prints what it was started with. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { requires } from "../helpers/requires.ts";
import { BUN, DENO, ROOT, RUNTIMES } from "../helpers/runtimes.ts";

const python = requires.program("python3", "python3");

const REPORT = `const { env, pid, versions } = process;
const runtime = "Deno" in globalThis ? "deno" : versions.bun ? "bun" : "node";
const names = Object.keys(env).filter((name) => /^(SHMLINK_|_shm|FROM_)/.test(name)).sort();
const seen = Object.fromEntries(names.map((name) => [name, env[name]]));
const report = JSON.stringify({ runtime, pid, args: process.argv.slice(2), cwd: process.cwd(), env: seen });
if (env.REPORT_TO === "2") console.error(report);
else console.log(report);
`;

type Report = {
  readonly runtime: string;
  readonly pid: number;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
};

let work = "";
let checkout = "";

beforeAll(() => {
  work = mkdtempSync("/tmp/shm-launch-");
  checkout = join(work, "a check out");
  mkdirSync(join(checkout, "bin"), { recursive: true });
  mkdirSync(join(checkout, "dist/bin"), { recursive: true });
  mkdirSync(join(checkout, "node_modules/bun/bin"), { recursive: true });
  mkdirSync(join(checkout, "node_modules/@deno/linux-any"), { recursive: true });
  cpSync(join(ROOT, "bin/shmlink"), join(checkout, "bin/shmlink"));
  cpSync(join(ROOT, "deno.json"), join(checkout, "deno.json"));
  writeFileSync(join(checkout, "package.json"), '{ "type": "module" }');
  writeFileSync(join(checkout, "bin/shmlink.ts"), `import process from "node:process";\n${REPORT}`);
  writeFileSync(join(checkout, "dist/bin/shmlink.js"), REPORT);
  symlinkSync(BUN.binary, join(checkout, "node_modules/bun/bin/bun.exe"));
  symlinkSync(DENO.binary, join(checkout, "node_modules/@deno/linux-any/deno"));
  // Where it is started: files that runtimes would read and must not.
  writeFileSync(join(work, ".env"), "FROM_ENV_FILE=1\n");
  writeFileSync(join(work, "bunfig.toml"), 'preload = ["./absent.ts"]\n');
  writeFileSync(join(work, "deno.json"), '{ "imports": 5 }\n');
});

afterAll(() => rmSync(work, { recursive: true }));

function start(command: string, options: { readonly cwd?: string; readonly env?: Record<string, string> } = {}) {
  const path = process.env["PATH"] ?? "";
  const { stdout, stderr, status } = spawnSync("sh", ["-c", command, "sh", checkout], {
    cwd: options.cwd ?? work,
    env: { PATH: path, ...options.env },
    encoding: "utf8",
  });
  return { stdout, stderr, status };
}

function report(command: string, options?: Parameters<typeof start>[1]): Report {
  const { stdout, stderr, status } = start(command, options);
  expect([stderr, status]).toEqual(["", 0]);
  return JSON.parse(stdout.slice(stdout.indexOf("{"))) as Report;
}

const ignoredIn = ({ env }: Report): bigint => BigInt(`0x${env["SHMLINK_SIGIGN"]}`);

describe("bin/shmlink", () => {
  test("passes arguments on as they are and stays in the directory it was started from", () => {
    const { args, cwd, runtime } = report(`"$1/bin/shmlink" wrap 'two words' --json '' -- -x`);
    expect([args, cwd, runtime]).toEqual([["wrap", "two words", "--json", "", "--", "-x"], work, "bun"]);
  });

  test("starts by relative path, through PATH, by sh, and in its own folder", () => {
    expect(report('"a check out/bin/shmlink" 1').args).toEqual(["1"]);
    expect(report('PATH="$1/bin:$PATH" shmlink 2').args).toEqual(["2"]);
    expect(report('cd "$1/bin" && sh shmlink 3').args).toEqual(["3"]);
    expect(report('cd "$1/bin" && ./shmlink 4').args).toEqual(["4"]);
  });

  test("starts through a symlink to itself, to a symlink, and to its folder", () => {
    symlinkSync(join(checkout, "bin/shmlink"), join(work, "first"));
    symlinkSync("first", join(work, "second"));
    symlinkSync(join(checkout, "bin"), join(work, "folder"));
    expect(report("./first a").args).toEqual(["a"]);
    expect(report("./second b").args).toEqual(["b"]);
    expect(report("folder/shmlink c").args).toEqual(["c"]);
    expect(report("SHMLINK_RUNTIME=node folder/shmlink d").args).toEqual(["d"]);
  });

  test("keeps its pid, which activation depends on", () => {
    const { stdout } = start('sh -c \'echo $$; exec "$1/bin/shmlink"\' sh "$1"');
    const [pid = "", rest = "{}"] = stdout.split("\n");
    expect((JSON.parse(rest) as Report).pid).toBe(Number(pid));
  });

  test("runs on the runtime that SHMLINK_RUNTIME names", () => {
    for (const { name: runtime } of RUNTIMES) {
      expect(report(`SHMLINK_RUNTIME=${runtime} "$1/bin/shmlink" x`)).toMatchObject({
        runtime,
        args: ["x"],
        cwd: work,
      });
    }
  });

  test("hands over the ignored signals, the file limit and the inherited descriptors", () => {
    const plain = report('ulimit -Sn 321; exec 7<&- ; "$1/bin/shmlink"');
    expect(plain.env).toMatchObject({ SHMLINK_SIGIGN: expect.stringMatching(/^[0-9a-f]{16}$/), SHMLINK_NOFILE: "321" });
    const told = report(`trap "" HUP PIPE; bash -c 'exec 7</dev/null 12</dev/null; exec "$1/bin/shmlink"' bash "$1"`);
    expect(ignoredIn(told) & 0x1001n).toBe(0x1001n);
    const fds = (told.env["SHMLINK_FDS"] ?? "").trim().split(" ");
    expect(fds).toContain("7");
    expect(fds).toContain("12");
    expect((plain.env["SHMLINK_FDS"] ?? "").trim().split(" ")).not.toContain("7");
  });

  test("hands over the same from every shell, and whatever it is called", () => {
    symlinkSync(join(checkout, "bin/shmlink"), join(work, "a) 1 2 (b"));
    const state = 'ulimit -Sn 321; ulimit -Hn 654; trap "" HUP XFSZ; exec 12</dev/null;';
    for (const shell of ["dash", "bash", "bash --posix"]) {
      const told = report(`bash -c '${state} exec ${shell} "$0" run' "$1/bin/shmlink"`);
      const { env } = told;
      expect([shell, env["SHMLINK_NOFILE"], env["SHMLINK_CLOSED"]]).toEqual([shell, "321", ""]);
      expect((env["SHMLINK_FDS"] ?? "").split(" ")).toContain("12");
      expect(ignoredIn(told) & 0x1001005n).toBe(0x1000001n); // not QUIT, which bash ignores itself
      const closed = `exec 2>&-; export REPORT_TO=1; exec ${shell} "$0" run`;
      expect(report(`bash -c '${closed}' "$1/bin/shmlink"`).env["SHMLINK_CLOSED"]).toBe(" 2");
    }
    expect(ignoredIn(report(`bash -c 'trap "" QUIT; exec bash "$0" run' "$1/bin/shmlink"`)) & 4n).toBe(4n);
    expect(ignoredIn(report(`bash -c '${state} exec "./a) 1 2 (b"'`)) & 0x1001001n).toBe(0x1000001n);
  });

  requires.test([python], "hands over the blocked signals, through a symlink too", () => {
    const blocking = `import os, signal, sys
signal.pthread_sigmask(signal.SIG_SETMASK, [2, 31, 34, 64])
os.execvp(sys.argv[1], sys.argv[1:])`;
    symlinkSync(join(checkout, "bin/shmlink"), join(work, "linked"));
    for (const shell of ["dash", "bash"]) {
      for (const path of [join(checkout, "bin/shmlink"), join(work, "linked")]) {
        const { env } = report(`python3 -I -c '${blocking}' ${shell} "${path}"`);
        expect(env["SHMLINK_SIGBLK"]).toBe("8000000240000002");
      }
    }
  });

  test("leaves stdin as it was", () => {
    const { stdout } = start('printf "one two" | { "$1/bin/shmlink" x >/dev/null; cat; }');
    expect(stdout).toBe("one two");
  });

  test("looks for what a program would inherit only where one may be run", () => {
    expect(Object.keys(report('"$1/bin/shmlink" ls').env)).toEqual(["SHMLINK_CLOSED", "SHMLINK_NOFILE"]);
    expect(Object.keys(report('"$1/bin/shmlink" -v ls').env)).toContain("SHMLINK_FDS");
  });

  test("says which of stdin, stdout and stderr were closed", () => {
    const told = (redirection: string): string | undefined => {
      const { stderr } = start(`REPORT_TO=2 "$1/bin/shmlink" ${redirection}`);
      return (JSON.parse(stderr) as Report).env["SHMLINK_CLOSED"];
    };
    expect([told(">&-"), told("<&- >&-"), told(">/dev/null"), told("")]).toEqual([" 1", " 0 1", "", ""]);
  });

  test("says in one line that too few files may be open", () => {
    const advice = 'are needed; raise the limit with "ulimit -n 1024"';
    for (const limit of [20, 63]) {
      const { stderr, status } = start(`ulimit -n ${limit}; "$1/bin/shmlink" ls`);
      expect(stderr).toBe(`shmlink: Cannot start: no more than ${limit} files may be open, and 64 ${advice}\n`);
      expect(status).toBe(1);
    }
    expect(start('ulimit -n 64; "$1/bin/shmlink" ls').status).toBe(0);
    expect(report('ulimit -Sn 60; "$1/bin/shmlink" ls').env["SHMLINK_NOFILE"]).toBe("60"); // runtimes raise it
  });

  test("leaves no variable of its own, and changes none of the caller's", () => {
    const env = { self: "1", bin: "2", bun: "3", _shm_bin: "mine" };
    const { env: seen } = report('unset _shm_bin; "$1/bin/shmlink"', { env });
    expect(Object.keys(seen)).toEqual([
      "SHMLINK_CLOSED",
      "SHMLINK_FDS",
      "SHMLINK_NOFILE",
      "SHMLINK_SIGBLK",
      "SHMLINK_SIGIGN",
    ]);
  });

  test("says in one line what to do when there is no runtime, or none of that name", () => {
    const bare = join(work, "bare");
    mkdirSync(join(bare, "bin"), { recursive: true });
    cpSync(join(ROOT, "bin/shmlink"), join(bare, "bin/shmlink"));
    chmodSync(join(bare, "bin/shmlink"), 0o755);
    const empty = { env: { PATH: join(work, "nowhere") } };
    const run = (setting: string) =>
      spawnSync("/bin/sh", ["-c", `${setting} ./bare/bin/shmlink ls`], { cwd: work, ...empty, encoding: "utf8" });
    for (const [setting, says] of [
      ["", 'shmlink: Cannot find a JavaScript runtime: run "npm ci" in the checkout, or put bun into PATH\n'],
      [
        "SHMLINK_RUNTIME=node",
        'shmlink: Cannot run on "node": it needs node 20 in PATH and "npm run build" in the checkout\n',
      ],
      ["SHMLINK_RUNTIME=ruby", 'shmlink: Cannot run on "ruby": SHMLINK_RUNTIME is bun, deno or node\n'],
    ] as const) {
      const { status, stderr } = run(setting);
      expect([status, stderr]).toEqual([1, says]);
    }
  });
});
