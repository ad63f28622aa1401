/** The committed machine code is what its assembly sources give. */
import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { ARM64, X64 } from "../../../ffi/machine/machine-code.gen.ts";
import type { MachineCode } from "../../../ffi/machine/machine-code.ts";
import { requires } from "../../helpers/requires.ts";
import { BUN, ROOT } from "../../helpers/runtimes.ts";

const needs = [
  requires.program("x86_64-linux-gnu-as", "binutils-x86-64-linux-gnu"),
  requires.program("aarch64-linux-gnu-as", "binutils-aarch64-linux-gnu"),
];

requires.test(needs, "assembling x64.s and arm64.s gives machine-code.gen.ts", () => {
  const [program = "", ...args] = BUN.command("ffi/machine/assemble.ts", "--check");
  const { status, stderr } = spawnSync(program, args, { cwd: join(ROOT), encoding: "utf8" });
  expect([status, stderr]).toEqual([0, ""]);
});

for (const [name, code] of Object.entries<MachineCode>({ X64, ARM64 })) {
  test(`the entry points of ${name} lie inside the code, aligned, and the signal slot is empty`, () => {
    const bytes = Buffer.from(code.hex, "hex");
    const { onSignal, signalFd, restore, spawnTable, end } = code.offsets;
    expect(bytes.length).toBe(end);
    for (const entry of [onSignal, restore, spawnTable]) expect([entry % 4, entry < end]).toEqual([0, true]);
    expect(bytes.readInt32LE(signalFd)).toBe(-1);
  });
}
