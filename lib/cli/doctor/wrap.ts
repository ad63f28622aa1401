/** What `wrap` needs: a program under a filter with a listener, and looking into a child. */
import { existsSync, readFileSync } from "node:fs";
import {
  enableSyncWakeUp,
  isUserNotifAvailable,
  kill,
  type OwnedFd,
  pidfdGetfd,
  pidfdOpen,
  pipe,
  readMemory,
  type Spawned,
  SyscallError,
  spawn,
  waitForChild,
} from "../../../ffi/mod.ts";
import { type Answer, no, type Probe, yes } from "./probe.ts";

const NEEDED_FOR_WRAP = "shmlink wrap";
const SIGKILL = 9;
const YAMA = "/proc/sys/kernel/yama/ptrace_scope";
const YAMA_MEANING: Readonly<Record<string, string>> = {
  "0": "any process of the same user",
  "1": "descendants only, which is enough",
  "2": "only with CAP_SYS_PTRACE",
  "3": "nobody; it stays so until the next boot",
};

export const WRAP_PROBES: readonly Probe[] = [
  { name: "seccomp user notification", essential: true, neededFor: NEEDED_FOR_WRAP, ask: askListener },
  { name: "synchronous wake-up", neededFor: "fast connects under wrap (Linux 6.6)", ask: askSyncWakeUp },
  { name: "pidfd_getfd", essential: true, neededFor: NEEDED_FOR_WRAP, ask: askGetfd },
  { name: "process_vm_readv", essential: true, neededFor: NEEDED_FOR_WRAP, ask: askReadMemory },
  { name: "Yama ptrace scope", neededFor: NEEDED_FOR_WRAP, ask: askYama },
];

/** A filter of one instruction, BPF_RET | BPF_K with SECCOMP_RET_ALLOW: it traps nothing, but it has a listener. */
function allowAll(): Uint8Array {
  const program = new DataView(new ArrayBuffer(8));
  program.setUint16(0, 0x06, true);
  program.setUint32(4, 0x7fff0000, true);
  return new Uint8Array(program.buffer);
}

/** Without CAP_SYS_ADMIN a filter needs no_new_privs. */
function spawnFiltered(): { readonly spawned: Spawned; readonly noNewPrivs: boolean } {
  const options = { path: "/bin/sh", argv: ["sh", "-c", ":"], env: [] };
  for (const noNewPrivs of [false, true]) {
    try {
      return { spawned: spawn({ ...options, filter: { program: allowAll(), noNewPrivs } }), noNewPrivs };
    } catch (error) {
      if (noNewPrivs || !(error instanceof SyscallError) || error.code !== "EACCES") throw error;
    }
  }
  throw new Error("not reached: the second try returns or throws");
}

function withListener<T>(use: (listener: OwnedFd, noNewPrivs: boolean) => T): T {
  const { spawned, noNewPrivs } = spawnFiltered();
  using listener = spawned.listener;
  try {
    if (listener === undefined) throw new Error("the filter has no listener");
    return use(listener, noNewPrivs);
  } finally {
    waitForChild(spawned.pid, true);
  }
}

function askListener(): Answer {
  if (!isUserNotifAvailable()) return no("this kernel has no SECCOMP_RET_USER_NOTIF (Linux 5.9)");
  try {
    return withListener((_, noNewPrivs) =>
      yes(`a program ran under a listener${noNewPrivs ? ", with no_new_privs" : ""}`),
    );
  } catch (error) {
    if (!(error instanceof SyscallError) || error.code !== "EBUSY") throw error;
    return no("another supervisor answers for this process already (a container runtime, another wrap)");
  }
}

function askSyncWakeUp(): Answer {
  return withListener((listener) =>
    enableSyncWakeUp(listener)
      ? yes("SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP")
      : no("not here; a trapped call costs some 16 µs more"),
  );
}

/** Runs `use` beside a child that sleeps in read(2), and ends that child. */
function withChild<T>(use: (pid: number) => T): T {
  const { reader, writer } = pipe();
  using input = reader;
  using _held = writer;
  const { pid } = spawn({
    path: "/bin/sh",
    argv: ["sh", "-c", "read line"],
    env: [],
    fds: [{ from: input.number, to: 0 }],
  });
  try {
    return use(pid);
  } finally {
    kill(pid, SIGKILL);
    waitForChild(pid, true);
  }
}

function askGetfd(): Answer {
  return withChild((pid) => {
    using pidfd = pidfdOpen(pid);
    using _copy = pidfdGetfd(pidfd, 0);
    return yes("a child's descriptor was duplicated");
  });
}

function askReadMemory(): Answer {
  return withChild((pid) => {
    const start = readFileSync(`/proc/${pid}/maps`, "latin1").split("-")[0] ?? "";
    const bytes = readMemory(pid, Number.parseInt(start, 16), 4);
    const isElf = new TextDecoder("latin1").decode(bytes) === "\u007fELF";
    return isElf ? yes("a child's memory was read") : no("a child's memory reads wrong");
  });
}

function askYama(): Answer {
  if (!existsSync(YAMA)) return yes("not in this kernel: no restriction");
  const scope = readFileSync(YAMA, "latin1").trim();
  const detail = `${scope}: ${YAMA_MEANING[scope] ?? "unknown"}`;
  const restricted = scope === "3" || (scope === "2" && process.geteuid?.() !== 0);
  return restricted ? no(`${detail}; sysctl kernel.yama.ptrace_scope=1`) : yes(detail);
}
