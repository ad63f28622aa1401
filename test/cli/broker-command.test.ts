/** `shmlink broker` by itself, on each runtime: its own socket, inherited ones, its end. */
import { describe, expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { isRunning, waitUntil } from "../helpers/broker.ts";
import { requires } from "../helpers/requires.ts";
import { BUN, RUNTIMES } from "../helpers/runtimes.ts";
import { Cli, errorLine } from "./fixture.ts";

for (const runtime of RUNTIMES) {
  describe(runtime.name, () => {
    test("makes its socket, refuses a second broker there, and removes it when it ends", async () => {
      await using cli = new Cli(runtime);
      const { child, result } = cli.start(["broker", "--idle-ms=0"], { stdin: "ignore" });
      await waitUntil(() => answers(cli), "the broker to answer");
      const second = await cli.run(["broker"]);
      expect(errorLine(second)).toMatch(/a broker is running there/);
      expect(second.code).toBe(1);
      child.kill("SIGTERM");
      const { code, stderr } = await result;
      expect(code).toBe(0);
      expect(stderr).toMatch(/info Serving .*broker\.sock\n.*info Stopped by signal 15\n$/);
      expect(existsSync(cli.socketPath)).toBe(false);
    }, 60_000);

    test("a broker that was started on demand leaves when nobody is connected, and its socket with it", async () => {
      await using cli = new Cli(runtime);
      const { text } = await cli.run(["ls", "--json"], { env: { SHMLINK_CONFIG: idleConfig(cli) } });
      const { broker } = JSON.parse(text) as { broker: { owner: { pid: number } } };
      await waitUntil(() => !isRunning(broker.owner.pid), "the broker to end");
      expect(readdirSync(cli.directory).sort()).toEqual(["broker.log", "shmlink.toml"]);
    }, 60_000);
  });
}

function idleConfig(cli: Cli): string {
  const path = `${cli.directory}/shmlink.toml`;
  writeFileSync(path, "[broker]\nidleMs = 50\n");
  return path;
}

function answers(cli: Cli): boolean {
  try {
    using _link = cli.link();
    return true;
  } catch {
    return false;
  }
}

requires.test(
  [requires.program("systemd-socket-activate", "systemd")],
  "systemd-socket-activate passes its socket on, and a client finds the broker behind it",
  async () => {
    await using cli = new Cli(BUN);
    const args = ["-l", cli.socketPath, "--fdname=shmlink", ...cli.command("broker")];
    const child = spawn("systemd-socket-activate", args, { env: cli.env, stdio: "ignore" });
    await waitUntil(() => answers(cli), "the broker behind the socket"); // whose file is there before it listens
    const { code, text } = await cli.run(["ls", "--json"]);
    expect(code).toBe(0);
    // It becomes the broker: exec(3) keeps the pid.
    expect(JSON.parse(text)).toMatchObject({ broker: { owner: { pid: child.pid } } });
    child.kill("SIGTERM");
    await new Promise((resolve) => child.on("close", resolve));
    expect(existsSync(cli.socketPath)).toBe(false);
  },
  60_000,
);

test("an inherited descriptor of another name is refused, and says how to name it", async () => {
  await using cli = new Cli(BUN);
  const script = 'LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=other exec "$@" 3</dev/null';
  const [program = "", ...rest] = cli.command("broker");
  const child = spawn("sh", ["-c", script, "sh", program, ...rest], {
    env: cli.env,
    stdio: ["ignore", "ignore", "pipe"],
  });
  const parts: string[] = [];
  child.stderr.on("data", (part) => parts.push(String(part)));
  const code = await new Promise((resolve) => child.on("close", resolve));
  expect(parts.join("")).toMatch(
    /^shmlink: Cannot take inherited descriptor 3 "other": nobody asked for it, set FileDescriptorName=shmlink/,
  );
  expect(code).toBe(1);
});
