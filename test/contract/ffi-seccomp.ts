/** Contract: the calls of a watched program are received, answered, continued and given descriptors. */
import assert from "node:assert/strict";
import {
  addFd,
  constants,
  enableSyncWakeUp,
  isNotificationValid,
  isUserNotifAvailable,
  type Notification,
  type OwnedFd,
  pipe,
  poll,
  readMemory,
  receiveNotification,
  respondContinue,
  respondError,
  respondValue,
  type Spawned,
  spawn,
  waitForChild,
  write,
  writeMemory,
} from "../../ffi/mod.ts";
import { codeOf } from "./ffi-errors.ts";
import { sh } from "./ffi-spawn.ts";
import type { Case } from "./suite.ts";

const NUMBERS = process.arch === "arm64" ? { getppid: 173, chdir: 49 } : { getppid: 110, chdir: 80 };
const AUDIT_ARCH = process.arch === "arm64" ? constants.AUDIT_ARCH_AARCH64 : constants.AUDIT_ARCH_X86_64;

/** Classic BPF: traps system call `nr`, allows every other. */
function trap(nr: number): Uint8Array {
  const program = [
    [0x20, 0, 0, 0], // load seccomp_data.nr
    [0x15, 0, 1, nr], // equal: next, else skip one
    [0x06, 0, 0, constants.SECCOMP_RET_USER_NOTIF],
    [0x06, 0, 0, constants.SECCOMP_RET_ALLOW],
  ] as const;
  const data = new DataView(new ArrayBuffer(program.length * 8));
  for (const [index, [code, jt, jf, k]] of program.entries()) {
    data.setUint16(index * 8, code, true);
    data.setUint8(index * 8 + 2, jt);
    data.setUint8(index * 8 + 3, jf);
    data.setUint32(index * 8 + 4, k, true);
  }
  return new Uint8Array(data.buffer);
}

/** Starts `script` with `nr` trapped and answers each trapped call; returns how the shell ended. */
function supervise(script: string, nr: number, answer: (listener: OwnedFd, call: Notification) => void): unknown {
  const { pid, listener } = watch(script, nr);
  for (;;) {
    const [events = 0] = poll([{ fd: listener, events: constants.EPOLLIN }], -1);
    if ((events & constants.EPOLLIN) === 0) break; // EPOLLHUP: nobody is left under the filter
    const call = receiveNotification(listener);
    if (call !== undefined) answer(listener, call);
  }
  listener.close();
  return waitForChild(pid, true);
}

function watch(script: string, nr: number): { readonly pid: number; readonly listener: OwnedFd } {
  const started: Spawned = spawn(sh(script, { filter: { program: trap(nr), noNewPrivs: true } }));
  assert.ok(started.listener !== undefined);
  return { pid: started.pid, listener: started.listener };
}

const unless = (): string | undefined =>
  isUserNotifAvailable() ? undefined : "this kernel has no seccomp user notification";
const succeeded = { kind: "exited", code: 0 };

function cString(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
}

export const SECCOMP_CASES: readonly Case[] = [
  {
    name: "a trapped call is answered with a value",
    unless,
    run() {
      const seen: Notification[] = [];
      const end = supervise('test "$PPID" = 4242', NUMBERS.getppid, (listener, call) => {
        seen.push(call);
        assert.equal(isNotificationValid(listener, call.id), true);
        assert.equal(respondValue(listener, call.id, 4242), true);
        assert.equal(isNotificationValid(listener, call.id), false);
      });
      assert.deepEqual(end, succeeded);
      assert.deepEqual([seen[0]?.nr, seen[0]?.arch], [NUMBERS.getppid, AUDIT_ARCH]);
    },
  },
  {
    name: "a continued call gets the kernel's own answer",
    unless,
    run() {
      const script = `test "$PPID" = ${process.pid}`;
      assert.deepEqual(
        supervise(script, NUMBERS.getppid, (listener, { id }) => respondContinue(listener, id)),
        succeeded,
      );
    },
  },
  {
    name: "an error reaches the program as its errno",
    unless,
    run() {
      const end = supervise("cd / 2>/dev/null && exit 1; exit 0", NUMBERS.chdir, (listener, { id }) => {
        respondError(listener, id, 13);
      });
      assert.deepEqual(end, succeeded);
    },
  },
  {
    name: "the memory behind an argument is read and written",
    unless,
    run() {
      const paths: string[] = [];
      const end = supervise("cd /no/such/place && test -d cpu || test -e self", NUMBERS.chdir, (listener, call) => {
        paths.push(cString(readMemory(call.pid, call.args[0], 64)));
        writeMemory(call.pid, [{ address: call.args[0], bytes: new TextEncoder().encode("/proc\0") }]);
        assert.equal(
          codeOf(() => readMemory(call.pid, 8, 16)),
          "EFAULT",
        );
        assert.equal(
          codeOf(() => writeMemory(call.pid, [{ address: 8, bytes: Uint8Array.of(1) }])),
          "EFAULT",
        );
        respondContinue(listener, call.id);
      });
      assert.deepEqual([end, paths], [succeeded, ["/no/such/place"]]);
    },
  },
  {
    name: "a descriptor is installed under the number that was asked for",
    unless,
    run() {
      const { reader, writer } = pipe();
      write(writer, new TextEncoder().encode("injected\n"));
      writer.close();
      const script = "cd / ; read -r line <&9 && test $line = injected";
      const end = supervise(script, NUMBERS.chdir, (listener, { id }) => {
        assert.equal(addFd(listener, id, reader, { kind: "replace", number: 9 }, 0), 9);
        const lowest = addFd(listener, id, reader, { kind: "lowest" }, 0);
        assert.ok(lowest !== undefined && lowest !== 9);
        assert.equal(
          codeOf(() => addFd(listener, id, reader, { kind: "replace", number: 10_000_000 }, 0)),
          "EBADF", // above its RLIMIT_NOFILE
        );
        respondValue(listener, id, 0);
      });
      reader.close();
      assert.deepEqual(end, succeeded);
    },
  },
  {
    name: "a descriptor is installed and its number is the answer, in one step",
    unless,
    run() {
      const { reader, writer } = pipe();
      const end = supervise("test -p /proc/self/fd/$PPID", NUMBERS.getppid, (listener, { id }) => {
        assert.ok((addFd(listener, id, reader, { kind: "answer" }, 0) ?? 0) > 2);
        assert.equal(isNotificationValid(listener, id), false);
      });
      reader.close();
      writer.close();
      assert.deepEqual(end, succeeded);
    },
  },
  {
    name: "a call that was cancelled is not answered, and a dead program hangs up",
    unless,
    run() {
      const { pid, listener } = watch("cd /", NUMBERS.chdir);
      poll([{ fd: listener, events: constants.EPOLLIN }], -1);
      const call = receiveNotification(listener);
      assert.ok(call !== undefined && call.pid === pid);
      process.kill(pid, "SIGKILL");
      waitForChild(pid, true);
      assert.equal(isNotificationValid(listener, call.id), false);
      assert.equal(respondContinue(listener, call.id), false);
      assert.equal(addFd(listener, call.id, listener, { kind: "lowest" }, 0), undefined);
      const [events = 0] = poll([{ fd: listener, events: constants.EPOLLIN }], -1);
      assert.equal(events & constants.EPOLLHUP, constants.EPOLLHUP);
      assert.equal(
        codeOf(() => readMemory(pid, 4096, 16)),
        "ESRCH",
      );
      listener.close();
    },
  },
  {
    name: "synchronous wake-up is set, or refused by an older kernel",
    unless,
    run() {
      const { pid, listener } = watch("exit 0", NUMBERS.chdir);
      assert.equal(typeof enableSyncWakeUp(listener), "boolean");
      listener.close();
      waitForChild(pid, true);
    },
  },
];
