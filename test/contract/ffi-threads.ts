/** Contract: a thread in machine code closes descriptors, for as long as it takes, and nobody waits for it. */
import assert from "node:assert/strict";
import { borrowFd, CallThread, fstat, type OwnedFd, pipe } from "../../ffi/mod.ts";
import { Lingering } from "../helpers/lingering.ts";
import { codeOf } from "./ffi-errors.ts";
import type { Case } from "./suite.ts";

const unless = (): string | undefined => (process.arch === "x64" ? undefined : "it is machine code for x86-64");

function started(): CallThread {
  const thread = CallThread.start();
  assert.ok(thread !== undefined, "no thread could be made");
  return thread;
}

function finish(thread: CallThread): void {
  for (let turn = 0; turn < 1000 && thread.isBusy; turn++) thread.wait(10);
  assert.equal(thread.isBusy, false);
}

export const THREAD_CASES: readonly Case[] = [
  {
    name: "a thread closes what it is given, as many as it takes at once, again and again",
    unless,
    run() {
      const thread = started();
      for (let turn = 0; turn < 100; turn++) {
        const ends: OwnedFd[] = [];
        while (ends.length < CallThread.MAX_CALLS) ends.push(...Object.values(pipe()));
        const numbers = ends.map((end) => end.take());
        thread.close(numbers);
        finish(thread);
        for (const number of numbers)
          assert.equal(
            codeOf(() => fstat(borrowFd(number))),
            "EBADF",
          );
      }
      thread.giveBack();
    },
  },
  {
    name: "while a thread waits in a close that does not end we go on, and so does another thread",
    unless,
    run() {
      const [stuck, free] = [started(), started()];
      using lingering = new Lingering();
      const { reader, writer } = pipe();
      stuck.close([lingering.fd.take()]);
      free.close([reader.take(), writer.take()]);
      finish(free);
      stuck.wait(1);
      assert.equal(stuck.isBusy, true);
      assert.throws(() => stuck.close([]), TypeError);
      lingering.release();
      finish(stuck);
      for (const thread of [stuck, free]) thread.giveBack();
    },
  },
  {
    name: "a thread that was given back is used again, when it has come back from what it does",
    unless,
    run() {
      const thread = started();
      using lingering = new Lingering();
      thread.close([lingering.fd.take()]);
      thread.giveBack();
      const other = started();
      assert.notEqual(other, thread);
      lingering.release();
      finish(thread);
      const taken = [started(), started()];
      assert.ok(taken.includes(thread));
      for (const each of [other, ...taken]) each.giveBack();
    },
  },
];
