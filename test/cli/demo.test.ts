/** The demonstration as `npm start` runs it: ends well, shows what it promises, and leaves nothing behind. */
import { expect, test } from "bun:test";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { waitUntil } from "../helpers/broker.ts";
import { requires } from "../helpers/requires.ts";
import { BUN } from "../helpers/runtimes.ts";
import { Cli } from "./fixture.ts";

const NEEDS = [requires.program("tar", "tar"), requires.program("node", "nodejs")];

/** Processes that were given a path below `directory`. */
function processesOf(directory: string): string[] {
  return readdirSync("/proc").filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/environ`, "utf8").includes(directory);
    } catch {
      return false;
    }
  });
}

requires.test(
  NEEDS,
  "shows the broker, the transfer, questions and answers, and the wrapped server, and takes all of it away",
  async () => {
    await using cli = new Cli(BUN);
    const { code, text, stderr } = await cli.run(["demo"], { env: { TMPDIR: cli.directory } });
    expect([stderr, code]).toEqual(["", 0]);
    for (const way of ["channel", "Unix socket", "TCP on loopback"]) {
      expect(text).toMatch(new RegExp(`^ +${way} +[\\d.]+ [MG]iB/s +SHA-256 equal at both ends$`, "m"));
    }
    const times = ["channel", "Unix socket", "TCP on loopback"].map((way) =>
      Number(new RegExp(`^ +${way} +([\\d.]+) µs each, there and back$`, "m").exec(text)?.[1]),
    );
    expect(times.every((time) => time > 0)).toBe(true);
    expect(text).toContain("bytes over TCP, as ever, the right ones");
    expect(text).toContain("bytes over the Unix socket, the right ones");
    expect(text).toMatch(/Wrapped listeners\n.*\n +\d+ +tcp:127\.0\.0\.1:\d+ .* 1 +1 +0 /);
    expect(text).toContain("Done in ");
    expect(readdirSync(cli.directory)).toEqual([]);
    await waitUntil(() => processesOf(`${cli.directory}/shmlink-demo-`).length === 0, "its processes to be gone");
  },
  120_000,
);

// The broker is nobody's child, and soon after the beginning it is being started: what is tried here are moments, not waits.
test.each([0, 150, 250, 350, 1000])(
  "an interruption after %i ms takes everything away too, and is told by the exit code",
  async (ms) => {
    await using cli = new Cli(BUN);
    const { child, result } = cli.start(["demo"], { env: { TMPDIR: cli.directory }, stdin: "ignore" });
    await waitUntil(() => readdirSync(cli.directory).some((name) => name.startsWith("shmlink-demo-")), "it to begin");
    await Bun.sleep(ms);
    child.kill("SIGINT");
    expect((await result).code).toBe(130);
    expect(readdirSync(cli.directory)).toEqual([]);
    expect(processesOf(`${cli.directory}/shmlink-demo-`)).toEqual([]);
  },
  120_000,
);

test("an end of a comparison that there is not is refused, and so is one without a place", async () => {
  await using cli = new Cli(BUN);
  const unknown = await cli.run(["demo", "--relay=toString", "--at=/x"]);
  expect([unknown.code, unknown.stderr]).toEqual([2, expect.stringContaining('Cannot use --relay "toString"')]);
  const placeless = await cli.run(["demo", "--relay=ask"]);
  expect([placeless.code, placeless.stderr]).toEqual([
    2,
    expect.stringContaining('Missing --at: "shmlink demo --relay" needs --at=WHERE'),
  ]);
});

test("an answer that is not the question ends the comparison", async () => {
  await using cli = new Cli(BUN);
  const path = join(cli.directory, "liar.sock");
  const liar = createServer((socket) => socket.on("data", (data) => socket.write(data.fill(65)))).listen(path);
  await once(liar, "listening");
  const { code, stderr } = await cli.run(["demo", "--relay=ask", `--at=${path}`], { input: "one\ntwo\n" });
  liar.close();
  expect([code, stderr]).toEqual([1, expect.stringContaining('Cannot trust the answers: "one" came back as')]);
});
