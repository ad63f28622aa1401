/** Where Unix sockets behave otherwise than TCP's: a program sees the same natively and under wrap. */
import { expect } from "bun:test";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { compileFixture, Stage, splitLog } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const cc = requires.program("cc", "gcc");

type Case = {
  readonly title: string;
  /** What the connections that go over TCP all the same give as their reason; none does where it is left out. */
  readonly overTcp?: RegExp;
  /** How many do, where that is certain. */
  readonly times?: number;
};

const CASES: Readonly<Record<string, Case>> = {
  restarted: {
    title: "signals in connect(), whose handler restarts calls",
    overTcp: /^127\.0\.0\.1 \d+ a signal interrupted connect\(\)$/,
  },
  stopped: {
    title: "signals in connect(), whose handler does not restart calls",
    overTcp: /^127\.0\.0\.1 \d+ a signal interrupted connect\(\)$/,
  },
  "shut-under-accept": { title: "a listener that is shut down under a blocked accept(), and looked at meanwhile" },
  "shut-down": {
    title: "a listener that is shut down accepts nothing and is not connected to, until it listens again",
  },
  "number-gone": { title: "accept() goes on when its number means another file, as long as the listener is there" },
  "full-table": { title: "accept() beyond RLIMIT_NOFILE fails, and keeps the connection" },
  faults: { title: "pointers and lengths that are wrong" },
  others: { title: "UDP, Unix sockets and files are left alone" },
  wildcards: { title: "listeners on every address, for IPv4, for IPv6, and for both" },
  meant: { title: "0.0.0.0, :: and a broadcast address as destinations of sockets that are bound to an address" },
  "handed-on": { title: "listeners and connections that go on by fork, vfork and exec, and in messages" },
  "half-close": { title: "half and whole closes, and their events" },
  moved: { title: "sendfile, splice, peeking, and what is unread" },
  closed: { title: "connect() right after the listener was closed is refused" },
  "last-close": { title: "a listener ends with the last of its numbers, whichever that is, also in another process" },
  rebind: {
    title: "connect() to AF_UNSPEC keeps of the local address what the program chose, and it may be bound again",
  },
  fastopen: {
    title: "TCP Fast Open at both ends, with sendto(), with an option, and with much at once",
    overTcp: /^127\.0\.0\.1 \d+ too much is sent by TCP Fast Open/,
    times: 1,
  },
  buffers: { title: "sizes of buffers that were set before connect() and listen() read back" },
  zerocopy: {
    title: "who asks for completions of MSG_ZEROCOPY gets them, or is refused",
    overTcp: /^127\.0\.0\.1 \d+ the program wants completions of MSG_ZEROCOPY$/,
    times: 1,
  },
  again: { title: "a port can be listened on again right after its listener was closed" },
};

for (const [name, { title, overTcp, times }] of Object.entries(CASES)) {
  requires.test(
    [cc],
    title,
    async () => {
      await using stage = new Stage();
      const program = compileFixture("tcp-edges");
      const native = stage.plain([program, name]);
      expect(await native.exit, native.output).toBe(0);
      const wrapped = stage.wrap([program, name], { flags: ["--log"] });
      expect(await wrapped.exit, wrapped.output).toBe(0);
      const { program: said, log } = splitLog(wrapped.output);
      expect(said).toBe(native.output);
      if (name !== "others") expect(log).toContain("Handed off tcp:");
      const fallbacks = stage.registry.fallbacks();
      for (const line of fallbacks) expect(line).toMatch(overTcp ?? /^nothing$/);
      if (times !== undefined) expect(fallbacks).toHaveLength(times);
    },
    60_000,
  );
}
