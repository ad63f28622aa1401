/** However a server waits for connections, it gets those from TCP and those from wrapped clients, each with its address. */
import { expect } from "bun:test";
import { join } from "node:path";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { ROOT } from "../helpers/runtimes.ts";
import { compileFixture, Stage } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const needs = [requires.program("cc", "gcc"), requires.program("python3", "python3")];
const CLIENTS = join(ROOT, "test/fixtures/programs/tcp-clients.py");
const EACH = 12;

const WAYS = ["blocking", "nonblocking", "poll", "select", "epoll", "threads", "fork", "signals", "timeout", "unbound"];

function peers(output: string): string[] {
  return output
    .split("\n")
    .filter((line) => line.startsWith("peer "))
    .sort();
}

for (const way of WAYS) {
  requires.test(
    needs,
    `a server that accepts by "${way}" gets every connection of both kinds`,
    async () => {
      await using stage = new Stage();
      const server = stage.wrap([compileFixture("accept-ways"), way, String(EACH * 2)]);
      const port = await server.match(/port (\d+)/);
      const tcp = stage.plain(["python3", CLIENTS, port, String(EACH)]);
      const unix = stage.wrap(["python3", CLIENTS, port, String(EACH)]);
      expect(await Promise.all([tcp.exit, unix.exit]), tcp.output + unix.output).toEqual([0, 0]);
      expect(await server.exit).toBe(0);
      expect(peers(server.output)).toEqual(peers(tcp.output + unix.output));
      if (way === "timeout") expect(server.output).toContain("timed out");
    },
    60_000,
  );
}
