/** Which calls of a program come to its supervisor, to the last: what the filter lets through costs nothing. */
import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Cli } from "../cli/fixture.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { BUN } from "../helpers/runtimes.ts";
import { compileFixture, freePort } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const cc = requires.program("cc", "gcc");

/** What one-each did at both ends. @param flags  of wrap, for each @returns what the wraps wrote to stderr */
async function exchange(cli: Cli, count: number, flags: (end: string) => readonly string[]): Promise<string[]> {
  const program = compileFixture("one-each");
  const port = freePort();
  const wrap = (end: string): ReturnType<Cli["start"]> =>
    cli.start(["wrap", ...flags(end), "--", program, end, String(port), String(count)]);
  const server = wrap("serve");
  await cli.listening(port);
  const results = await Promise.all([server.result, wrap("dial").result]);
  for (const { code, stderr } of results) expect(code, stderr).toBe(0);
  return results.map(({ stderr }) => stderr);
}

function trapsIn(file: string): string[] {
  const lines = readFileSync(file, "utf8").trim().split("\n");
  return lines.map((line) => JSON.parse(line)).flatMap(({ event, call }) => (event === "trap" ? [call as string] : []));
}

requires.test(
  [cc],
  "of one connection, connect() is trapped at the client, and bind(), listen() and accept() at the server: nothing else",
  async () => {
    await using cli = new Cli(BUN);
    const file = (end: string): string => join(cli.directory, `${end}.trace`);
    await exchange(cli, 1, (end) => [`--trace=${file(end)}`]);
    expect(trapsIn(file("serve"))).toEqual(["bind", "listen", "accept"]);
    expect(trapsIn(file("dial"))).toEqual(["connect"]);
  },
  60_000,
);

/** @returns how often each call was trapped, as --explain says at the end */
function counts(explained: string): Record<string, number> {
  const lines = explained.matchAll(/^ +(\w+) +(\d+) +[\d.]+ us/gm);
  return Object.fromEntries([...lines].map(([, call, count]) => [call, Number(count)]));
}

requires.test(
  [cc],
  "of a hundred connections, the same calls are trapped, once each, with machine code to answer them",
  async () => {
    await using cli = new Cli(BUN);
    const [server = "", client = ""] = await exchange(cli, 100, () => ["--explain"]);
    expect(counts(server)).toEqual({ bind: 1, listen: 1, accept: 100 });
    expect(counts(client)).toEqual({ connect: 100 });
  },
  60_000,
);
