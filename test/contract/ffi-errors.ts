/** Contract: the errno of a failed call is that call's own, whatever the runtime did meanwhile. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { Worker } from "node:worker_threads";
import {
  constants,
  listen,
  mapShared,
  memfdCreate,
  OwnedFd,
  open,
  pipe,
  read,
  SyscallError,
  setNonBlocking,
  socket,
} from "../../ffi/mod.ts";
import type { Case } from "./suite.ts";

/** The code of the SyscallError that `action` must throw. */
export function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    assert.ok(error instanceof SyscallError, `expected a SyscallError, got ${error}`);
    return error.code;
  }
  assert.fail("expected a SyscallError, but the call succeeded");
}

const WRONG_CALLS: readonly (readonly [code: string, action: () => unknown])[] = [
  ["ENOENT", () => open("/nowhere/at/all", constants.O_RDONLY)],
  ["EBADF", () => read({ number: 1_000_000 }, new Uint8Array(1))],
  ["EISDIR", () => open("/", constants.O_WRONLY)],
  ["ENOTDIR", () => open("/proc/self/status/x", constants.O_RDONLY)],
  ["EAFNOSUPPORT", () => socket(63, constants.SOCK_STREAM)],
  ["ENAMETOOLONG", () => open(`/${"x".repeat(300)}`, constants.O_RDONLY)],
];

/** Something that leaves another errno behind in the runtime's own thread. */
function disturb(round: number): void {
  existsSync(`/nowhere/${round}`);
  JSON.stringify(new Array(round % 50).fill({ round }));
}

export function interleaveFailures(rounds: number): void {
  for (let round = 0; round < rounds; round++) {
    for (const [code, action] of WRONG_CALLS) {
      disturb(round);
      assert.equal(codeOf(action), code);
      using fine = open("/dev/null", constants.O_RDONLY);
      assert.equal(read(fine, new Uint8Array(1)), 0);
    }
  }
}

/** Resolves with the worker's message once it has ended. */
function runWorker(): Promise<unknown> {
  const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
  const worker = new Worker(new URL(`./ffi-worker.${extension}`, import.meta.url));
  let message: unknown;
  worker.on("message", (value) => {
    message = value;
  });
  return new Promise((resolve, reject) => {
    worker.once("exit", () => resolve(message));
    worker.once("error", reject);
  });
}

export const ERROR_CASES: readonly Case[] = [
  { name: "errno is right when failing and succeeding calls alternate", run: () => interleaveFailures(300) },
  {
    name: "errno is right while three workers fail at the same time",
    mayLeave: "Deno" in globalThis ? "Deno keeps the event loop of a worker that has ended" : undefined,
    async run() {
      const workers = Promise.all([runWorker(), runWorker(), runWorker()]);
      interleaveFailures(100);
      assert.deepEqual(await workers, ["done", "done", "done"]);
    },
  },
  {
    name: "SyscallError names call, code, number and subject",
    run() {
      try {
        open("/nowhere", constants.O_RDONLY);
        assert.fail("opened");
      } catch (error) {
        assert.ok(error instanceof SyscallError);
        assert.deepEqual([error.syscall, error.code, error.errno, error.path], ["open", "ENOENT", 2, "/nowhere"]);
        assert.equal(error.message, 'open "/nowhere": no such file or directory (ENOENT)');
      }
    },
  },
  {
    name: "mapping errors are the kernel's: EACCES, ENODEV, EINVAL",
    run() {
      using readOnly = open("/proc/self/exe", constants.O_RDONLY);
      assert.equal(
        codeOf(() => mapShared(readOnly, 4096, "read-write")),
        "EACCES",
      );
      const { reader, writer } = pipe();
      assert.equal(
        codeOf(() => mapShared(writer, 4096, "read")),
        "EACCES",
      );
      assert.equal(
        codeOf(() => mapShared(reader, 4096, "read")),
        "ENODEV",
      );
      using empty = memfdCreate("empty");
      assert.equal(
        codeOf(() => mapShared(empty, 0, "read")),
        "EINVAL",
      );
      reader.close();
      writer.close();
    },
  },
  {
    name: "a call on a closed OwnedFd throws EBADF before it reaches the kernel",
    run() {
      const fd = socket(constants.AF_UNIX, constants.SOCK_STREAM);
      fd.close();
      assert.equal(
        codeOf(() => listen(fd, 1)),
        "EBADF",
      );
      assert.equal(
        codeOf(() => setNonBlocking(fd, true)),
        "EBADF",
      );
      assert.equal(
        codeOf(() => new OwnedFd(-1).number),
        "EBADF",
      );
    },
  },
  {
    name: "a NUL in a path is refused, not cut",
    run: () => assert.throws(() => open("/dev/null\0/x", constants.O_RDONLY), TypeError),
  },
];
