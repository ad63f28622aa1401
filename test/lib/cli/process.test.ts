/** What the command line reads from its surroundings, and how errors and log lines look. */
import { describe, expect, spyOn, test } from "bun:test";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { errno, SyscallError } from "../../../ffi/mod.ts";
import { parseJob } from "../../../lib/cli/copy/terminal.ts";
import { ignoredSignals } from "../../../lib/cli/inherited-signals.ts";
import { takeLauncherState } from "../../../lib/cli/launcher.ts";
import { createLogger } from "../../../lib/cli/logger.ts";
import { renderError } from "../../../lib/cli/report-error.ts";
import { UsageError } from "../../../lib/cli/usage-error.ts";
import { FailureError } from "../../../lib/errors.ts";
import { BUN, ROOT } from "../../helpers/runtimes.ts";

describe("takeLauncherState()", () => {
  test("reads the launcher's variables and removes them", () => {
    const env: Record<string, string | undefined> = {
      SHMLINK_NOFILE: "1024",
      SHMLINK_SIGIGN: "0000000100000003",
      SHMLINK_SIGBLK: "c000000000000200",
      SHMLINK_FDS: "3 12",
      SHMLINK_CLOSED: " 0 1",
      PATH: "/bin",
    };
    const fds = { inheritedFds: [3, 12], closedFds: [0, 1], lacksStdout: true };
    const state = { fileLimit: 1024n, ignored: 0x100000003n, blocked: 0xc000000000000200n, ...fds };
    expect(takeLauncherState(env)).toEqual(state);
    expect(Object.keys(env)).toEqual(["PATH"]);
  });

  test("takes no limit for one it cannot read, and the process's own signals without a mask", () => {
    const state = takeLauncherState({ SHMLINK_NOFILE: "many", SHMLINK_SIGIGN: "none" });
    expect(state.fileLimit).toBeUndefined();
    expect(ignoredSignals(state)).not.toContain(13); // Bun's own
    expect(takeLauncherState({ SHMLINK_NOFILE: "unlimited" }).fileLimit).toBe(2n ** 64n - 1n);
  });

  test("says which signals we were started to ignore", () => {
    expect(ignoredSignals({ ignored: 0n })).toEqual([]);
    expect(ignoredSignals({ ignored: 0x8000000240001003n })).toEqual([1, 2, 13, 31, 34, 64]);
  });

  test("without the launcher knows of those that runtimes leave alone", () => {
    const signals = `import { ignoredSignals } from "${ROOT}/lib/cli/inherited-signals.ts";
      console.log(ignoredSignals({ ignored: undefined }).join());`;
    const script = ["-c", 'trap "" TERM RTMIN RTMAX; exec "$0" -e "$1"', BUN.binary, signals];
    const { stdout, stderr } = spawnSync("bash", script, { encoding: "utf8" });
    expect([stdout, stderr]).toEqual(["15,34,64\n", ""]);
  });
});

test("parseJob() reads past a name with brackets and spaces", () => {
  const stat = "42 (a) (b c) S 1 100 99 34816 101 4194304 0";
  expect(parseJob(stat)).toEqual({ processGroup: 100, terminal: 34816, foregroundGroup: 101 });
});

describe("renderError()", () => {
  test("is one line, whatever the message holds, and adds causes only when asked", () => {
    const error = new FailureError("gone", "Cannot go on\n  at all", {
      cause: new Error("first", { cause: "second" }),
    });
    expect(renderError(error, false)).toBe("shmlink: Cannot go on at all\n");
    expect(renderError(error, true)).toBe("shmlink: Cannot go on at all\n  because: Error: first\n  because: second\n");
    expect(renderError(new UsageError("Wrong"), false)).toBe("shmlink: Wrong\n");
  });

  test("says what to do about too many open files, wherever they were met", () => {
    const advice = '; raise the limit of open files with "ulimit -n 1024"\n';
    const system = new SyscallError("socket", errno.EMFILE);
    expect(renderError(system, false)).toBe(`shmlink: socket: too many open files (EMFILE)${advice}`);
    const runtime = Object.assign(new Error("EMFILE: too many open files, open 'x.js'"), { code: "EMFILE" });
    expect(renderError(runtime, false)).toBe(`shmlink: EMFILE: too many open files, open 'x.js'${advice}`);
  });

  test("says that a bug is one", () => {
    expect(renderError(new TypeError("x is not a function"), false)).toMatch(
      /^shmlink: Internal error: x is not a function; .*-v.*\n$/,
    );
    expect(renderError("thrown text", true)).toMatch(/^shmlink: Internal error: thrown text; [^\n]*\n$/);
  });
});

describe("createLogger()", () => {
  function written(env: Record<string, string>, log: (logger: ReturnType<typeof createLogger>) => void): string {
    const parts: string[] = [];
    const spy = spyOn(fs, "writeSync").mockImplementation((_fd: number, bytes: unknown) => {
      parts.push(new TextDecoder().decode(bytes as Uint8Array));
      return (bytes as Uint8Array).length;
    });
    try {
      log(createLogger({ level: "info", env, isTerminal: false }));
    } finally {
      spy.mockRestore();
    }
    return parts.join("");
  }

  test("marks levels for the journal, one line a message", () => {
    const text = written({ JOURNAL_STREAM: "8:1" }, (logger) => {
      logger.error("Broken\nin two");
      logger.warn("Refused", { uid: 1000, rule: "own", pid: undefined });
      logger.debug("not shown");
    });
    expect(text).toBe('<3>Broken in two\n<4>Refused (uid 1000, rule "own")\n');
  });

  test("lets no control character through, which a wrong rule may have in its name", () => {
    const text = written({ JOURNAL_STREAM: "8:1" }, (logger) => logger.info("a\u001b[31m", { rule: "\u009b" }));
    expect(text).toBe('<6>a\ufffd[31m (rule "\ufffd")\n');
  });

  test("writes time and level where no journal reads", () => {
    expect(written({}, (logger) => logger.info("Serving"))).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z info Serving\n$/);
  });
});
