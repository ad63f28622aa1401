/**
 * What the committed bytes of the ring's machine code do to the words that two sides share, and in which order: as the
 * exploration of sleeping and waking takes it for granted. A position is stored and then there is a fence, because a plain
 * store may still be on its way when the word after it is read, and no word is stored but the two positions.
 */
import { afterAll, beforeAll, expect } from "bun:test";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CODE_HEX, OFFSETS } from "../../../ffi/machine/record-path.gen.ts";
import {
  CONTROL_BYTES,
  DATA_OFFSET,
  DATA_WAKE,
  HEAD,
  HEADER_BYTES,
  SPACE_WAKE,
  STATE,
  TAIL,
} from "../../../lib/ring/layout.ts";
import { requires } from "../../helpers/requires.ts";
import { ROOT } from "../../helpers/runtimes.ts";

const OBJDUMP = requires.program("x86_64-linux-gnu-objdump", "binutils-x86-64-linux-gnu");
const GCC = requires.program("x86_64-linux-gnu-gcc", "gcc-x86-64-linux-gnu");
const NAMES = new Map(Object.entries({ TAIL, HEAD, DATA_WAKE, SPACE_WAKE, STATE }).map(([name, at]) => [at * 4, name]));
const LAST_HOT = STATE * 4;

let work: string;
beforeAll(() => {
  work = mkdtempSync("/tmp/shmlink-order-");
});
afterAll(() => rmSync(work, { recursive: true }));

/** Instructions as `mnemonic operands`, by address. */
function disassemble(...args: readonly string[]): Map<number, string> {
  const text = execFileSync("x86_64-linux-gnu-objdump", ["-M", "intel", "--no-show-raw-insn", "--wide", ...args], {
    encoding: "latin1",
  });
  const lines = text.matchAll(/^\s*([0-9a-f]+):\s+(\S.*?)\s*$/gm);
  return new Map([...lines].map(([, address = "", code = ""]) => [Number.parseInt(address, 16), code]));
}

/** Each access to a word that both sides look at, in the order of the code: `stores HEAD`, `loads TAIL`, `locked TAIL`;
 *  and each fence: what gcc makes of one is mfence, or a locked instruction that changes nothing on the stack. */
function accesses(code: Map<number, string>, from: number, to: number): string[] {
  const found: string[] = [];
  for (const [address, instruction] of code) {
    const [, mnemonic = "", operands = ""] = /^((?:lock )?\S+)\s*(.*)$/.exec(instruction) ?? [];
    const place = /\[[^\]]*\+0x([0-9a-f]+)\]/.exec(operands);
    const offset = Number.parseInt(place?.[1] ?? "0", 16);
    if (address < from || address >= to) continue;
    if (mnemonic === "mfence" || (mnemonic === "lock or" && /\[rsp\],0x0$/.test(operands))) found.push("fence");
    if (place === null || offset < HEADER_BYTES || offset > LAST_HOT) continue;
    const isStore = operands.indexOf("[") < operands.indexOf(",") || !operands.includes(",");
    const locked = mnemonic === "xchg" || mnemonic.startsWith("lock ");
    const name = NAMES.get(offset) ?? `byte ${offset - HEADER_BYTES} of ${CONTROL_BYTES}`;
    found.push(`${locked ? "locked" : isStore ? "stores" : "loads"} ${name}`);
  }
  return found;
}

const PUBLISHED = ["stores HEAD", "fence", "loads SPACE_WAKE"] as const;
const WANTED: Record<string, readonly string[]> = {
  send: ["stores TAIL", "fence", "loads DATA_WAKE"],
  putPacked: [],
  receive: ["loads TAIL", ...PUBLISHED, ...PUBLISHED],
  takePacked: ["loads TAIL", ...PUBLISHED],
  lend: [],
  probe: [],
};

function committed(): Map<number, string> {
  const flat = join(work, "code.bin");
  writeFileSync(flat, Buffer.from(CODE_HEX, "hex"));
  return disassemble("-D", "-b", "binary", "-m", "i386:x86-64", flat);
}

requires.test(
  [OBJDUMP],
  "each position is stored, then there is a fence, then the word after it is read, and nothing else is stored",
  () => {
    const code = committed();
    const starts = Object.values(OFFSETS).sort((a, b) => a - b);
    for (const [name, offset] of Object.entries(OFFSETS)) {
      const end = starts.find((start) => start > offset) ?? Number.POSITIVE_INFINITY;
      expect({ name, order: accesses(code, offset, end) }).toEqual({ name, order: [...(WANTED[name] ?? [])] });
    }
    expect(accesses(code, 0, Number.POSITIVE_INFINITY)).toHaveLength(Object.values(WANTED).flat().length);
  },
);

/** Addresses of the instructions between two others that read or write a record: its header or its payload. To fetch it into
 *  the cache reads nothing that counts. */
function records(code: Map<number, string>, from: number, to: number): number[] {
  const mentions = new RegExp(`\\+0x${DATA_OFFSET.toString(16)}\\]|\\+0x${(DATA_OFFSET + 8).toString(16)}\\]`);
  return [...code]
    .filter(([at, text]) => at >= from && at < to && mentions.test(text) && !text.startsWith("prefetch"))
    .map(([at]) => at);
}

requires.test(
  [OBJDUMP],
  "a record is written before the tail is stored, and looked for after the tail was read",
  () => {
    const code = committed();
    const starts = Object.values(OFFSETS).sort((a, b) => a - b);
    const partOf = (name: keyof typeof OFFSETS): [from: number, to: number, tail: number] => {
      const [from, to] = [OFFSETS[name], starts.find((start) => start > OFFSETS[name]) ?? Number.POSITIVE_INFINITY];
      const place = `+0x${(TAIL * 4).toString(16)}]`;
      const [tail] = [...code].find(([at, text]) => at >= from && at < to && text.includes(place)) ?? [Number.NaN];
      return [from, to, tail];
    };
    const [sendFrom, sendTo, stored] = partOf("send");
    const written = records(code, sendFrom, sendTo);
    expect(written.length).toBeGreaterThan(0);
    expect(Math.max(...written)).toBeLessThan(stored);
    for (const name of ["receive", "takePacked"] as const) {
      const [from, to, read] = partOf(name);
      const looked = records(code, from, to);
      expect(looked.length).toBeGreaterThan(0);
      expect(Math.min(...looked)).toBeGreaterThan(read);
    }
  },
);

/** The code of `record-path.c`, changed, as the compiler in CI makes it. */
function compiled(change: (source: string) => string): Map<number, string> {
  const [source, object] = [join(work, "path.c"), join(work, "path.o")];
  writeFileSync(source, change(readFileSync(join(ROOT, "ffi/machine/record-path.c"), "utf8")));
  execFileSync("x86_64-linux-gnu-gcc", ["-std=c11", "-O2", "-ffreestanding", "-fPIC", "-c", "-o", object, source]);
  return disassemble("-d", object);
}

/** Each kind of access once: how often one is repeated is up to the compiler. */
const kinds = (code: Map<number, string>): Set<string> => new Set(accesses(code, 0, Number.POSITIVE_INFINITY));

requires.test([OBJDUMP, GCC], "a store without a fence would be noticed", () => {
  const wanted = Object.values(WANTED).flat();
  expect(kinds(compiled((source) => source))).toEqual(new Set(wanted));
  const weaker = compiled((source) => source.replace(", __atomic_thread_fence(__ATOMIC_SEQ_CST))", ")"));
  expect(kinds(weaker)).toEqual(new Set(wanted.filter((access) => access !== "fence")));
});

requires.test([OBJDUMP], "the words are found by their place in the layout", () => {
  expect([...NAMES.keys()].every((offset) => offset >= HEADER_BYTES && offset < HEADER_BYTES + CONTROL_BYTES)).toBe(
    true,
  );
  expect(accesses(new Map([[0, "mov    DWORD PTR [rbx+0x1100],eax"]]), 0, 1)).toEqual(["stores DATA_WAKE"]);
  expect(accesses(new Map([[0, "mov    eax,DWORD PTR [rbx+rax*1+0x1200]"]]), 0, 1)).toEqual(["loads STATE"]);
  expect(accesses(new Map([[0, "mfence"]]), 0, 1)).toEqual(["fence"]);
  expect(accesses(new Map([[0, "lock cmpxchg DWORD PTR [rbx+0x1000],eax"]]), 0, 1)).toEqual(["locked TAIL"]);
});
