/** `wrap --trace` to a FIFO: it is waited for, and nothing is lost. */
import { expect } from "bun:test";
import { execFileSync } from "node:child_process";
import { closeSync, existsSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { requires } from "../helpers/requires.ts";
import { BUN } from "../helpers/runtimes.ts";
import { freePort, until } from "../helpers/wrapped.ts";
import { Cli } from "./fixture.ts";

/** More than a pipe holds is written about these. */
const COUNT = 500;
const DIAL = `
import socket, sys
open(sys.argv[2], "w")
for _ in range(${COUNT}): assert socket.socket().connect_ex(("127.0.0.1", int(sys.argv[1]))) != 0
`;

requires.test(
  [requires.program("python3", "python3"), requires.program("mkfifo", "coreutils")],
  "a trace to a FIFO waits for its reader, at the start and when it is full, and loses no line",
  async () => {
    await using cli = new Cli(BUN);
    const [fifo, started] = [join(cli.directory, "fifo"), join(cli.directory, "started")];
    execFileSync("mkfifo", [fifo]);
    const program = ["python3", "-c", DIAL, String(freePort()), started];
    const { result } = cli.start(["wrap", "--explain", `--trace=${fifo}`, "--", ...program]);
    const reader = openSync(fifo, "r");
    await until("the program to run", () => existsSync(started));
    let text = "";
    const part = Buffer.alloc(65_536);
    for (let count = readSync(reader, part); count > 0; count = readSync(reader, part))
      text += part.toString("utf8", 0, count);
    closeSync(reader);
    const { code, stderr } = await result;
    expect([code, stderr.includes("could not be written")]).toEqual([0, false]);
    const events = text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { event: string; call: string });
    expect(events.filter(({ event, call }) => event === "decision" && call === "connect")).toHaveLength(COUNT);
    expect(text.length).toBeGreaterThan(part.length);
  },
  60_000,
);
