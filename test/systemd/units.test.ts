import { describe, expect, test } from "bun:test";
import { appendFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { SYMBOLS } from "../../ffi/symbols.ts";
import { MAX_STORED } from "../../lib/broker/survival/keeper.ts";
import { builtInConfig } from "../../lib/config/schema.ts";
import { requires } from "../helpers/requires.ts";
import { installedUnits, KINDS, type Kind, unitText, unitValues } from "./unit-files.ts";

const ANALYZE = [requires.program("systemd-analyze", "systemd")];
const EXECUTABLE = join(import.meta.dir, "../../bin/shmlink");

/** What systemd before 254 says of a key that it then ignores. */
const TOO_NEW = /^.*Unknown key .*'FileDescriptorStorePreserve' in section .*, ignoring\.\n/gm;

type Outcome = { code: number; output: string };

function analyze(args: readonly string[], runtimeDirectory: string): Outcome {
  const { exitCode, stdout, stderr } = Bun.spawnSync(["systemd-analyze", ...args], {
    env: { ...process.env, XDG_RUNTIME_DIR: runtimeDirectory, SYSTEMD_COLORS: "0" },
  });
  return { code: exitCode, output: `${stdout}${stderr}` };
}

for (const kind of KINDS) {
  describe(`the ${kind} units`, () => {
    const inDirectory = (action: (directory: string) => void): void => {
      const directory = installedUnits(kind, EXECUTABLE);
      try {
        action(directory);
      } finally {
        rmSync(directory, { recursive: true });
      }
    };

    requires.test(ANALYZE, `have nothing that systemd does not understand`, () => {
      inDirectory((directory) => {
        const units = ["shmlink.socket", "shmlink.service"].map((unit) => join(directory, unit));
        const scope = kind === "user" ? ["--user"] : [];
        const { code, output } = analyze(["verify", ...scope, "--man=no", ...units], directory);
        expect({ code, output: output.replace(TOO_NEW, "") }).toEqual({ code: 0, output: "" });
      });
    });

    test("have a socket of the name and the path that the broker and its clients expect", () => {
      const socket = unitText(kind, "shmlink.socket");
      const path = kind === "user" ? "%t/shmlink/broker.sock" : "/run/shmlink/broker.sock";
      expect(unitValues(socket, "ListenStream")).toEqual([path]);
      expect(unitValues(socket, "FileDescriptorName")).toEqual(["shmlink"]);
      expect(unitValues(socket, "SocketMode")).toEqual([kind === "user" ? "0600" : "0666"]);
      expect(unitValues(unitText(kind, "shmlink.service"), "ExecStart")).toEqual(["@SHMLINK@ broker"]);
    });

    test("have a reload that sends the signal on which the broker reads its configuration again", () => {
      expect(unitValues(unitText(kind, "shmlink.service"), "ExecReload")).toEqual(["/bin/kill -HUP $MAINPID"]);
    });

    test("have a store for as many descriptors as the broker puts there", () => {
      expect(unitValues(unitText(kind, "shmlink.service"), "FileDescriptorStoreMax")).toEqual([String(MAX_STORED)]);
    });

    test("have a watchdog that does not wake an idle broker before it ends", () => {
      const [text] = unitValues(unitText(kind, "shmlink.service"), "WatchdogSec");
      const minutes = Number(/^(\d+)min$/.exec(text ?? "")?.[1]);
      expect((minutes * 60_000) / 2).toBeGreaterThan(builtInConfig.broker.idleMs);
    });
  });
}

/** Fails with what systemd-analyze says when the service's exposure, with `more` in its unit, is above 3.0. */
function expectLowExposure(kind: Kind, more = ""): void {
  const directory = installedUnits(kind, EXECUTABLE);
  const unit = join(directory, "shmlink.service");
  appendFileSync(unit, more);
  const { code, output } = analyze(["security", "--offline=yes", "--threshold=30", unit], directory);
  rmSync(directory, { recursive: true });
  expect(output).toMatch(/Overall exposure level for shmlink.service: [0-2]\.\d/);
  expect(code).toBe(0);
}

requires.test(ANALYZE, `the system service's exposure is at most 3.0`, () => {
  expectLowExposure("system");
});

/**
 * What a process of an ordinary user can do nothing about, and a user's manager cannot say, having no capability itself:
 * systemd-analyze counts as if root's manager had started it. NoNewPrivileges= keeps it so across execve(2).
 */
const UNPRIVILEGED = `
[Service]
User=nobody
CapabilityBoundingSet=
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
`;

requires.test(ANALYZE, `the user service's exposure is at most 3.0 when what its user cannot do is told`, () => {
  expect(unitValues(unitText("user", "shmlink.service"), "NoNewPrivileges")).toEqual(["yes"]);
  expectLowExposure("user", UNPRIVILEGED);
});

test("the user service has nothing that would put it into a user namespace", () => {
  // exec_context_need_unprivileged_private_users() of systemd 252: the peers' uids would read as "nobody"
  const text = unitText("user", "shmlink.service");
  expect(text).not.toMatch(
    /^(Private|Protect|ReadWrite|ReadOnly|Inaccessible|Bind|TemporaryFileSystem|Root|MountAPI)\w*=/m,
  );
});

/** What only wrapped programs and the command line call; all other rows of the table are the broker's. */
const NOT_THE_BROKERS: readonly string[] = [
  "dup3",
  "execve",
  "seccomp",
  "pidfdGetfd",
  "processVmReadv",
  "processVmWritev",
  "schedSetaffinity",
  "waitid",
];

/** "int fcntl(int fd, …)" → fcntl */
function kernelName(prototype: string): string {
  return /(\w+)\(/.exec(prototype)?.[1] ?? "";
}

/** The system calls of a group, the groups in it opened. */
function expandGroup(group: string, directory: string): Set<string> {
  const { output } = analyze(["syscall-filter", group], directory);
  const lines = output.split("\n").map((line) => line.trim());
  const names = lines.filter((line) => line !== "" && line !== group && !line.startsWith("#"));
  return new Set(names.flatMap((name) => (name.startsWith("@") ? [...expandGroup(name, directory)] : [name])));
}

function allowedCalls(service: string): Set<string> {
  const allowed = new Set<string>();
  for (const filter of unitValues(service, "SystemCallFilter")) {
    const isDenied = filter.startsWith("~");
    for (const item of filter.replace("~", "").split(" ")) {
      for (const name of item.startsWith("@") ? expandGroup(item, "/tmp") : [item]) {
        if (isDenied) allowed.delete(name);
        else allowed.add(name);
      }
    }
  }
  return allowed;
}

for (const kind of KINDS) {
  requires.test(ANALYZE, `the ${kind} service allows every system call of the broker`, () => {
    const allowed = allowedCalls(unitText(kind, "shmlink.service"));
    const rows = Object.entries(SYMBOLS).filter(([name]) => !NOT_THE_BROKERS.includes(name));
    const missing = rows.map(([, { c }]) => kernelName(c)).filter((name) => !allowed.has(name));
    expect(missing).toEqual([]);
    for (const name of ["ptrace", "mount", "bpf", "chown", "setuid", "process_vm_writev"]) {
      expect(allowed.has(name)).toBe(false);
    }
  });
}

test("the list of calls that are not the broker's has no name that is not in the table", () => {
  expect(NOT_THE_BROKERS.filter((name) => !Object.keys(SYMBOLS).includes(name))).toEqual([]);
});
