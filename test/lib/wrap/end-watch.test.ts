import { expect, test } from "bun:test";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { constants, type OwnedFd, socket } from "../../../ffi/mod.ts";
import { Reactor } from "../../../lib/transport/reactor.ts";
import { CONTINUE } from "../../../lib/wrap/answer.ts";
import { EndWatch } from "../../../lib/wrap/end-watch.ts";
import { handleBind } from "../../../lib/wrap/handlers/bind.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";

expectNoFdLeaks();

const unixSocket = (): OwnedFd => socket(constants.AF_UNIX, constants.SOCK_STREAM);

/** How many watches this process has. */
function countWatches(): number {
  const all = readdirSync("/proc/self/fd").filter((fd) => linkOf(fd) === "anon_inode:inotify");
  return all.flatMap((fd) => readFileSync(`/proc/self/fdinfo/${fd}`, "latin1").match(/^inotify wd:/gm) ?? []).length;
}

function linkOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return ""; // the folder's own
  }
}

test("EndWatch tells at once of all sockets that have ended, however many, and keeps no watch of those", () => {
  using stack = new DisposableStack();
  const before = countWatches();
  const ends = stack.use(new EndWatch(stack.use(new Reactor())));
  const told: string[] = [];
  ends.watch(stack.use(unixSocket()), () => told.push("living"));
  const forgotten = ends.watch(stack.use(unixSocket()), () => told.push("forgotten"));
  for (let each = 0; each < 1000; each++) {
    using brief = unixSocket();
    ends.watch(brief, () => told.push("brief"));
  }
  expect(countWatches() - before).toBe(1002);
  ends.notice();
  forgotten?.forget();
  forgotten?.forget();
  expect(told).toEqual(new Array(1000).fill("brief"));
  expect(countWatches() - before).toBe(1);
});

test("bind() is let through, and what has been closed before it is noticed first, whatever else waits for its turn", () => {
  using stack = new DisposableStack();
  const ends = stack.use(new EndWatch(stack.use(new Reactor())));
  const told: string[] = [];
  const closed = unixSocket();
  ends.watch(closed, () => told.push("closed"));
  expect(handleBind({ ends })).toBe(CONTINUE);
  closed.close();
  expect(told).toEqual([]);
  expect(handleBind({ ends })).toBe(CONTINUE);
  expect(told).toEqual(["closed"]);
});
