/** Corners of sockets and epoll that a hand-off could break: a program sees the same natively and under wrap. */
import { expect } from "bun:test";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { compileFixture, Stage, splitLog } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const cc = requires.program("cc", "gcc");

const CASES = {
  "epoll-then-connect": "a registration in epoll made before connect() keeps working",
  "epoll-then-listen": "a registration in epoll made before listen() keeps working",
  "dup-then-connect": "duplicates made before connect() are the connection, with their own close-on-exec",
  "dup-then-listen": "a duplicate made before listen() is the listener",
  unspec: "connect() to AF_UNSPEC disconnects, and the socket connects again with its options",
  "listen-again": "a listener that was shut down listens again",
  reuseport: "SO_REUSEPORT lets several sockets, of several processes, listen on one port until the last is closed",
  mptcp: "multipath TCP sockets are TCP's",
  oob: "urgent data, its mark and its signal",
  large: "a client that sends much without reading, and closes its half",
};

for (const [name, title] of Object.entries(CASES)) {
  requires.test(
    [cc],
    title,
    async () => {
      await using stage = new Stage();
      const program = compileFixture("tcp-corners");
      const native = stage.plain([program, name]);
      expect(await native.exit).toBe(0);
      const wrapped = stage.wrap([program, name], { flags: ["--log"] });
      expect(await wrapped.exit, wrapped.output).toBe(0);
      const { program: said, log } = splitLog(wrapped.output);
      expect(said).toBe(native.output);
      expect(log).toContain("Handed off tcp:127.0.0.1:");
      expect(stage.registry.fallbacks()).toEqual([]);
    },
    60_000,
  );
}
