/** Every struct of ffi/structs has the size and the offsets that the C compiler gives it. */
import { beforeAll, describe, expect } from "bun:test";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import type { Fields, Struct } from "../../ffi/struct.ts";
import * as event from "../../ffi/structs/event.ts";
import * as processes from "../../ffi/structs/process.ts";
import * as seccomp from "../../ffi/structs/seccomp.ts";
import * as socket from "../../ffi/structs/socket.ts";
import { requires } from "../helpers/requires.ts";
import { makeRuntimeDir } from "../helpers/runtime-dir.ts";

const HEADERS: readonly string[] = [
  "<stddef.h>",
  "<stdio.h>",
  "<poll.h>",
  "<time.h>",
  "<signal.h>",
  "<sys/epoll.h>",
  "<sys/resource.h>",
  "<sys/socket.h>",
  "<sys/stat.h>",
  "<sys/uio.h>",
  "<sys/un.h>",
  "<netinet/in.h>",
  "<linux/filter.h>",
  "<linux/seccomp.h>",
  // linux/stat.h clashes with sys/stat.h, which has struct statx under _GNU_SOURCE
];

// What rt_sigaction(2) takes is in no header that a program can include beside <signal.h>; this is asm/signal.h.
const KERNEL_SIGACTION = `struct kernel_sigaction {
  void (*handler)(int); unsigned long flags; void (*restorer)(void); unsigned long long mask; };`;

/** Where a field of ours has another spelling in C. `pad` is the hole before the union of siginfo_t. */
const FIELD_IN_C: Readonly<Record<string, Readonly<Record<string, string | undefined>>>> = {
  "struct epoll_event": { data: "data.u64" },
  siginfo_t: { pad: undefined },
  "struct seccomp_notif": {
    nr: "data.nr",
    arch: "data.arch",
    instruction_pointer: "data.instruction_pointer",
    args: "data.args",
  },
};

/** Structs of which only the first part is described. */
const LARGER_IN_C: Readonly<Record<string, number>> = { siginfo_t: 128, "struct statx": 256 };

const ALL = [event, processes, seccomp, socket].flatMap((module) => Object.entries<Struct<Fields>>(module));

function fieldInC(struct: string, field: string): string | undefined {
  const renamed = FIELD_IN_C[struct];
  return renamed !== undefined && field in renamed ? renamed[field] : field;
}

function linesFor({ name, offsets }: Struct<Fields>): string[] {
  const fields = Object.keys(offsets).flatMap((field) => {
    const inC = fieldInC(name, field);
    return inC === undefined ? [] : [`printf("${name}/${field} %zu\\n", offsetof(${name}, ${inC}));`];
  });
  return [`printf("${name} %zu\\n", sizeof(${name}));`, ...fields];
}

function compileAndRun(): ReadonlyMap<string, number> {
  using folder = makeRuntimeDir();
  const body = ALL.flatMap(([, struct]) => linesFor(struct)).join("\n  ");
  const includes = HEADERS.map((header) => `#include ${header}`).join("\n");
  const source = `#define _GNU_SOURCE\n${includes}\n${KERNEL_SIGACTION}\nint main(void) {\n  ${body}\n}\n`;
  writeFileSync(`${folder.path}/offsets.c`, source);
  execFileSync("cc", ["-o", `${folder.path}/offsets`, `${folder.path}/offsets.c`], { stdio: "pipe" });
  const lines = execFileSync(`${folder.path}/offsets`, { encoding: "utf8" }).trim().split("\n");
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ")))]),
  );
}

describe("structs against the C compiler", () => {
  const needs = [requires.program("cc", "gcc"), requires.file("/usr/include/stdio.h", "libc6-dev")];
  let inC: ReadonlyMap<string, number>;
  beforeAll(() => {
    if (needs.every(({ missing }) => missing === undefined)) inC = compileAndRun();
  });
  for (const [name, struct] of ALL) {
    requires.test(needs, `${name} has the size and offsets of ${struct.name}`, () => {
      const expected = LARGER_IN_C[struct.name] ?? struct.size;
      expect(inC.get(struct.name)).toBe(expected);
      expect(struct.size).toBeLessThanOrEqual(expected);
      const described = Object.entries(struct.offsets).filter(([field]) => fieldInC(struct.name, field) !== undefined);
      expect(described.length).toBeGreaterThan(0);
      for (const [field, offset] of described) {
        expect([field, inC.get(`${struct.name}/${field}`)]).toEqual([field, offset]);
      }
    });
  }
});
