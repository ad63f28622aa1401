/** Contract: programs started, awaited, limited and watched through seccomp; their memory and descriptors. */
import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import {
  borrowFd,
  constants,
  fcntl,
  fstat,
  getFileLimit,
  kill,
  memfdCreate,
  type OwnedFd,
  open,
  pidfdGetfd,
  pidfdOpen,
  pidfdSendSignal,
  pinToCpu,
  pipe,
  poll,
  read,
  type SpawnOptions,
  setFileLimit,
  spawn,
  waitForChild,
} from "../../ffi/mod.ts";
import { codeOf } from "./ffi-errors.ts";
import type { Case } from "./suite.ts";

const { EPOLLIN, SIGHUP, SIGINT, SIGKILL, SIGPIPE, SIGTERM, SIGUSR1 } = constants;
const ENV: readonly string[] = ["PATH=/usr/bin:/bin"];

export function sh(script: string, options: Partial<SpawnOptions> = {}): SpawnOptions {
  return { path: "/bin/sh", argv: ["sh", "-c", script], env: ENV, ...options };
}

function readAll(fd: OwnedFd): string {
  const room = new Uint8Array(1 << 14);
  let output = "";
  for (let count = read(fd, room); count !== null && count > 0; count = read(fd, room)) {
    output += new TextDecoder().decode(room.subarray(0, count));
  }
  return output;
}

/** What the program writes to its standard output, once it has ended. */
function outputOf(options: SpawnOptions): string {
  const { reader, writer } = pipe();
  const { pid } = spawn({ ...options, fds: [{ from: writer.number, to: 1 }, ...(options.fds ?? [])] });
  writer.close();
  const output = readAll(reader);
  reader.close();
  waitForChild(pid, true);
  return output;
}

function statusMask(output: string, field: string): bigint {
  return BigInt(`0x${new RegExp(`${field}:\\s*([0-9a-f]+)`).exec(output)?.[1] ?? "bad"}`);
}

const maskOf = (signals: readonly number[]): bigint =>
  signals.reduce((mask, signal) => mask | (1n << BigInt(signal - 1)), 0n);

function withFolder(action: (folder: string) => void): void {
  const folder = mkdtempSync("/tmp/shm-spawn-");
  try {
    action(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const STARTING: readonly Case[] = [
  {
    name: "a program's exit code and its killing signal are told apart",
    run() {
      assert.deepEqual(waitForChild(spawn(sh("exit 7")).pid, true), { kind: "exited", code: 7 });
      assert.deepEqual(waitForChild(spawn(sh("kill -TERM $$")).pid, true), { kind: "killed", signal: SIGTERM });
      const { pid } = spawn(sh("exec sleep 1000"));
      assert.equal(waitForChild(pid, false), undefined);
      assert.equal(kill(pid, SIGKILL), true);
      assert.deepEqual(waitForChild(pid, true), { kind: "killed", signal: SIGKILL });
      assert.equal(
        codeOf(() => waitForChild(pid, true)),
        "ECHILD",
      );
      assert.equal(kill(pid, 0), false);
    },
  },
  {
    name: "what cannot be executed throws execve's own error and leaves no child",
    run() {
      withFolder((folder) => {
        const garbage = `${folder}/garbage`;
        writeFileSync(garbage, "\x01\x02\x03");
        const attempt = (path: string) => codeOf(() => spawn({ path, argv: ["x"], env: ENV }));
        assert.equal(attempt(`${folder}/absent`), "ENOENT");
        assert.equal(attempt(garbage), "EACCES");
        assert.equal(attempt(folder), "EACCES");
        assert.equal(attempt(`${garbage}/x`), "ENOTDIR");
        chmodSync(garbage, 0o755);
        assert.equal(attempt(garbage), "ENOEXEC");
        const huge = "x".repeat(200_000); // MAX_ARG_STRLEN is 128 KiB
        assert.equal(
          codeOf(() => spawn({ path: "/bin/true", argv: ["true", huge], env: ENV })),
          "E2BIG",
        );
      });
    },
  },
  {
    name: "arguments and environment arrive byte for byte",
    run() {
      const argv = ["printf", "%s|", "", "two words", "ümlaut→", "a\nb", "--", "$HOME"];
      assert.equal(outputOf({ path: "/usr/bin/printf", argv, env: [] }), "|two words|ümlaut→|a\nb|--|$HOME|");
      const env = ["A=1", "EMPTY=", "B=ä=b"];
      assert.equal(outputOf({ path: "/usr/bin/env", argv: ["env"], env }), `${env.join("\n")}\n`);
    },
  },
  {
    name: "the program ignores and blocks exactly the signals it was told to, and handles none",
    run() {
      const grep = { path: "/bin/grep", argv: ["grep", "-E", "^Sig(Ign|Blk|Cgt)", "/proc/self/status"], env: ENV };
      const plain = outputOf(grep);
      assert.deepEqual(
        ["SigIgn", "SigBlk"].map((field) => statusMask(plain, field)),
        [0n, 0n],
      );
      const ignoredSignals = [SIGHUP, SIGPIPE, SIGINT, 64];
      const blocked = [SIGHUP, SIGTERM, 33, 64];
      const told = outputOf({ ...grep, ignoredSignals, blockedSignals: maskOf(blocked) });
      assert.equal(statusMask(told, "SigIgn"), maskOf(ignoredSignals));
      assert.equal(statusMask(told, "SigBlk"), maskOf(blocked));
    },
  },
  {
    name: "the program gets the descriptors it was given and no other of ours",
    run() {
      using secret = memfdCreate("shmlink-secret");
      using given = memfdCreate("shmlink-given");
      const list = { path: "/bin/ls", argv: ["ls", "-l", "/proc/self/fd"], env: ENV };
      const output = outputOf({ ...list, fds: [{ from: given.number, to: 9 }] });
      assert.match(output, / 9 -> \/memfd:shmlink-given/);
      assert.doesNotMatch(output, /shmlink-secret/);
      assert.equal(output.match(/shmlink-given/g)?.length, 1);
      const same = outputOf({ ...list, fds: [{ from: secret.number, to: secret.number }] });
      assert.match(same, new RegExp(` ${secret.number} -> /memfd:shmlink-secret`));
    },
  },
  {
    name: "the program finds our standard streams, and we keep their flags",
    run() {
      const flags = [0, 1, 2].map((number) => fcntl(borrowFd(number), constants.F_GETFD));
      assert.deepEqual(
        waitForChild(spawn(sh("test -e /dev/stdin && test -e /dev/stdout && test -e /dev/stderr")).pid, true),
        {
          kind: "exited",
          code: 0,
        },
      );
      assert.deepEqual(
        [0, 1, 2].map((number) => fcntl(borrowFd(number), constants.F_GETFD)),
        flags,
      );
    },
  },
  {
    name: "the program inherits the descriptors that it was promised",
    run() {
      using promised = memfdCreate("promised");
      const inheritedFds = [promised.number, 987]; // one that is not open does no harm
      const { pid } = spawn(sh(`test -e /dev/fd/${promised.number} && ! test -e /dev/fd/987`, { inheritedFds }));
      assert.deepEqual(waitForChild(pid, true), { kind: "exited", code: 0 });
      assert.equal(fcntl(promised, constants.F_GETFD), constants.FD_CLOEXEC);
    },
  },
  {
    name: "the file limit is set for the program and not for us",
    run() {
      const before = getFileLimit();
      const output = outputOf(sh("ulimit -Sn; ulimit -Hn", { fileLimit: { soft: 123n, hard: before.hard } }));
      assert.equal(output.split("\n")[0], "123");
      assert.deepEqual(getFileLimit(), before);
    },
  },
  {
    name: "our own file limit is lowered and raised again",
    run() {
      const before = getFileLimit();
      setFileLimit({ soft: before.soft - 1n, hard: before.hard });
      assert.equal(getFileLimit().soft, before.soft - 1n);
      setFileLimit(before);
      assert.deepEqual(getFileLimit(process.pid), before);
    },
  },
  {
    name: "thirty programs started one after another all end as they should",
    run() {
      const pids = Array.from({ length: 30 }, (_, index) => spawn(sh(`exit ${index}`)).pid);
      const ends = pids.map((pid) => waitForChild(pid, true));
      assert.deepEqual(
        ends,
        pids.map((_, index) => ({ kind: "exited", code: index })),
      );
    },
  },
];

const PIDFDS: readonly Case[] = [
  {
    name: "a pidfd becomes readable at the end of its process, and no signal goes astray",
    run() {
      const { pid } = spawn(sh("exec sleep 1000"));
      using pidfd = pidfdOpen(pid);
      assert.deepEqual(poll([{ fd: pidfd, events: EPOLLIN }], 0), [0]);
      assert.equal(pidfdSendSignal(pidfd, SIGUSR1), true);
      assert.deepEqual(poll([{ fd: pidfd, events: EPOLLIN }], -1), [EPOLLIN]);
      assert.deepEqual(waitForChild(pid, true), { kind: "killed", signal: SIGUSR1 });
      assert.equal(pidfdSendSignal(pidfd, SIGUSR1), false);
      assert.equal(
        codeOf(() => pidfdOpen(pid)),
        "ESRCH",
      );
    },
  },
  {
    name: "pidfd_getfd fetches a child's descriptor",
    run() {
      using file = memfdCreate("fetched");
      const { pid } = spawn(sh("exec sleep 1000", { fds: [{ from: file.number, to: 9 }] }));
      using pidfd = pidfdOpen(pid);
      using copy = pidfdGetfd(pidfd, 9);
      assert.equal(fstat(copy).ino, fstat(file).ino);
      assert.equal(
        codeOf(() => pidfdGetfd(pidfd, 8)),
        "EBADF",
      );
      kill(pid, SIGKILL);
      waitForChild(pid, true);
      assert.equal(
        codeOf(() => pidfdGetfd(pidfd, 9)),
        "ESRCH",
      );
    },
  },
  {
    name: "open reports the file limit as EMFILE",
    run() {
      const limit = getFileLimit();
      setFileLimit({ soft: 1n, hard: limit.hard });
      const code = codeOf(() => open("/dev/null", constants.O_RDONLY));
      setFileLimit(limit);
      assert.equal(code, "EMFILE");
    },
  },
  {
    name: "a thread is pinned to the CPU it was given",
    run() {
      const list = { path: "/bin/grep", argv: ["grep", "Cpus_allowed_list", "/proc/self/status"], env: ENV };
      const first = /\d+/.exec(outputOf(list))?.[0] ?? "0";
      pinToCpu(Number(first));
      assert.equal(outputOf(list), `Cpus_allowed_list:\t${first}\n`); // inherited by what this thread starts
      assert.equal(
        codeOf(() => pinToCpu(1023)),
        "EINVAL",
      );
    },
  },
];

export const SPAWN_CASES: readonly Case[] = [...STARTING, ...PIDFDS];
