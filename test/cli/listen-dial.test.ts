/** listen and dial as processes: what goes in at one end comes out at the other, and every way to end is told apart. */
import { describe, expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { constants, send } from "../../ffi/mod.ts";
import { waitUntil } from "../helpers/broker.ts";
import { processorTime } from "../helpers/process-state.ts";
import { requires } from "../helpers/requires.ts";
import { BUN, RUNTIMES } from "../helpers/runtimes.ts";
import { Cli, errorLine } from "./fixture.ts";

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

for (const runtime of RUNTIMES) {
  describe(runtime.name, () => {
    test("carry bytes both ways at once, through a ring much smaller than they are", async () => {
      await using cli = new Cli(runtime);
      const [there, back] = [randomBytes(3_000_001), randomBytes(2_000_003)];
      const [listened, dialled] = await Promise.all([
        cli.run(["listen", "pair", "--capacity=64K"], { input: back }),
        cli.run(["dial", "pair", "--capacity=4K"], { input: there }),
      ]);
      expect([listened.stderr, dialled.stderr]).toEqual(["", ""]);
      expect([listened.code, dialled.code]).toEqual([0, 0]);
      expect(sha256(listened.stdout)).toBe(sha256(there));
      expect(sha256(dialled.stdout)).toBe(sha256(back));
    }, 60_000);

    test("take regular files as stdin and stdout", async () => {
      await using cli = new Cli(runtime);
      const [from, to] = [join(cli.directory, "from"), join(cli.directory, "to")];
      const bytes = randomBytes(1_234_567);
      writeFileSync(from, bytes);
      const [input, output] = [openSync(from, "r"), openSync(to, "w")];
      const [listened, dialled] = await Promise.all([
        cli.run(["listen", "file", "-v"], { stdout: output, stdin: "ignore" }),
        cli.run(["dial", "file"], { stdin: input }),
      ]);
      for (const fd of [input, output]) closeSync(fd);
      expect([listened.code, dialled.code]).toEqual([0, 0]);
      expect(listened.stderr).toMatch(/^file: 1\.2 MiB received in /);
      expect(sha256(readFileSync(to))).toBe(sha256(bytes));
    }, 60_000);

    test("stdin of who can only receive is not read: that is said, but not where it was asked for", async () => {
      await using cli = new Cli(runtime);
      for (const [wanted, said] of [
        ["both", 'shmlink: nothing can be sent in this channel to "feed": stdin is not read\n'],
        ["receive", ""],
      ] as const) {
        const [listened, dialled] = await Promise.all([
          cli.run(["listen", "feed", "--direction=send"], { input: "news" }),
          cli.run(["dial", "feed", `--direction=${wanted}`], { input: "lost" }),
        ]);
        expect([listened.text, listened.stderr, listened.code]).toEqual(["", "", 0]);
        expect([dialled.text, dialled.stderr, dialled.code]).toEqual(["news", said, 0]);
      }
    }, 60_000);

    test("--message keeps lines apart, an empty one and one without newline among them", async () => {
      await using cli = new Cli(runtime);
      const lines = `first\n\n${"x".repeat(5000)}\nlast`;
      const [listened, dialled] = await Promise.all([
        cli.run(["listen", "-m", "-v", "lines"]),
        cli.run(["dial", "-m", "lines"], { input: lines }),
      ]);
      expect([listened.code, dialled.code]).toEqual([0, 0]);
      expect(listened.text).toBe(`${lines}\n`);
      expect(listened.stderr).toContain("(4 messages received, 0 sent)");
    }, 60_000);

    test("--keep serves one after another, and SIGTERM ends it with 143", async () => {
      await using cli = new Cli(runtime);
      const { child, result } = cli.start(["listen", "--keep", "many"], { stdin: "ignore" });
      for (const word of ["one ", "two ", "three "]) {
        expect((await cli.run(["dial", "many"], { input: word })).code).toBe(0);
      }
      child.kill("SIGTERM");
      const { code, text, stderr } = await result;
      expect([code, text, stderr]).toEqual([143, "one two three ", ""]);
    }, 60_000);

    test("a peer that is killed has vanished: one line and exit code 1", async () => {
      await using cli = new Cli(runtime);
      const listener = cli.start(["listen", "cut"]);
      const dialler = cli.start(["dial", "cut"]);
      const begun = once(listener.child.stdout as Readable, "data"); // bytes are counted before they can be seen
      dialler.child.stdin?.write("begun");
      await begun;
      dialler.child.kill("SIGKILL");
      const result = await listener.result;
      expect(errorLine(result)).toMatch(/Cannot finish "cut": the other side vanished/);
      expect([result.code, result.text]).toEqual([1, "begun"]);
    }, 60_000);

    test("--keep outlives a peer that vanishes, and says so", async () => {
      await using cli = new Cli(runtime);
      const listener = cli.start(["listen", "--keep", "tough"], { stdin: "ignore" });
      const dialler = cli.start(["dial", "tough"]);
      const begun = once(listener.child.stdout as Readable, "data");
      dialler.child.stdin?.write("cut ");
      await begun;
      dialler.child.kill("SIGKILL");
      expect((await cli.run(["dial", "tough"], { input: "whole" })).code).toBe(0);
      listener.child.kill("SIGTERM");
      const result = await listener.result;
      expect(errorLine(result)).toMatch(/Cannot finish "tough": the other side vanished/);
      expect([result.code, result.text]).toEqual([143, "cut whole"]);
    }, 60_000);

    test("a full disk is said at both ends", async () => {
      await using cli = new Cli(runtime);
      const full = openSync("/dev/full", "w");
      const [listened, dialled] = await Promise.all([
        cli.run(["listen", "full"], { stdout: full, stdin: "ignore" }),
        cli.run(["dial", "full"], { input: "some bytes" }),
      ]);
      closeSync(full);
      expect(errorLine(listened)).toMatch(/Cannot write to stdout: no space left on device \(ENOSPC\)/);
      expect(errorLine(dialled)).toMatch(/Cannot finish "full": the other side (has gone|vanished) before/);
      expect([listened.code, dialled.code]).toEqual([1, 1]);
    }, 60_000);

    test("an unknown name fails at once with --wait=0, and a name in use is refused", async () => {
      await using cli = new Cli(runtime);
      const holder = cli.start(["listen", "taken"]);
      await cli.offered("taken");
      const unknown = await cli.run(["dial", "nobody", "--wait=0"]);
      expect(errorLine(unknown)).toBe('shmlink: Cannot dial "nobody": nobody offers this name; there is "taken"');
      const second = await cli.run(["listen", "taken"]);
      expect(errorLine(second)).toContain('"taken"');
      expect([unknown.code, second.code]).toEqual([1, 1]);
      holder.child.kill("SIGINT");
      expect((await holder.result).code).toBe(130);
    }, 60_000);
  });
}

function channelBytes(cli: Cli, name: string): number | undefined {
  try {
    using link = cli.link();
    const channel = link.list(name).find(({ kind }) => kind === "channel");
    return (channel?.details["toService"] as { bytes?: number } | undefined)?.bytes;
  } catch {
    return undefined;
  }
}

test("a reader of stdout that leaves ends listen quietly with 141", async () => {
  await using cli = new Cli(BUN);
  const listener = cli.start(["listen", "gone"]);
  const dialler = cli.start(["dial", "gone"]);
  dialler.child.stdin?.write("x");
  await waitUntil(() => channelBytes(cli, "gone") === 1, "the first byte");
  listener.child.stdout?.destroy();
  const { code, stderr } = await listener.result;
  expect([code, stderr]).toEqual([141, ""]);
  expect((await dialler.result).code).toBe(1);
}, 60_000);

requires.test(
  [requires.program("script", "bsdutils")],
  "a background job with a terminal as stdin is not stopped, and ends with what was sent",
  async () => {
    await using cli = new Cli(BUN);
    const shmlink = cli
      .command()
      .map((word) => `'${word}'`)
      .join(" ");
    const lines = [
      "set -m", // job control: a group of its own for the job, so that reading the terminal would stop it
      `${shmlink} listen job > out &`,
      `printf hello | ${shmlink} dial job; echo "dial $?"`,
      'wait %1; echo "listen $?"',
    ];
    writeFileSync(join(cli.directory, "job.sh"), lines.join("\n"));
    const { spawn } = await import("node:child_process");
    const child = spawn("script", ["-qec", "bash job.sh", "/dev/null"], {
      cwd: cli.directory,
      env: cli.env,
      stdio: ["pipe", "pipe", "inherit"],
    });
    const parts: string[] = [];
    child.stdout.on("data", (part) => parts.push(String(part)));
    await new Promise((resolve) => child.on("close", resolve));
    expect(parts.join("").replaceAll("\r", "")).toContain("dial 0\nlisten 0\n");
    expect(readFileSync(join(cli.directory, "out"), "utf8")).toBe("hello");
  },
  60_000,
);

test("listen leaves a peer alone that floods its doorbell, and reads what it sends all the same", async () => {
  await using cli = new Cli(BUN);
  const { child, result } = cli.start(["listen", "flooded"], { stdin: "ignore" });
  await cli.offered("flooded");
  using link = cli.link();
  using channel = link.dial("flooded");
  const byte = new Uint8Array(1);
  channel.send(byte);
  const flood = (leastUs: number): void => {
    const before = process.cpuUsage();
    for (let rings = 0, spentUs = 0; spentUs < leastUs; rings++) {
      send(channel.doorbellFd, byte, constants.MSG_DONTWAIT | constants.MSG_NOSIGNAL);
      if (rings % 1000 === 0) spentUs = process.cpuUsage(before).user + process.cpuUsage(before).system;
    }
  };
  flood(300_000); // it has begun by then, and its runtime has compiled what it does
  const [before, startMs] = [processorTime(child.pid as number), performance.now()];
  flood(500_000);
  const passed = (performance.now() - startMs) * 1000;
  const theirs = (processorTime(child.pid as number) - before) / 1000;
  channel.send(byte);
  channel.end();
  while (channel.receive() !== undefined); // it ends when all is written
  const { code, stdout } = await result;
  expect([code, stdout]).toEqual([0, Buffer.alloc(2)]);
  expect(theirs).toBeLessThan(passed / 5); // it looks again after a while, whoever else is at work: so often a second
}, 60_000);
