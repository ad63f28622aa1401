/** Classic BPF as data: a list of instructions with labels, and the bytes that seccomp(2) takes. Pure. */

export type Instruction =
  | { readonly op: "load"; readonly offset: number }
  | { readonly op: "and"; readonly value: number }
  /** Each target is a label; undefined goes on with the next instruction. */
  | {
      readonly op: "equal" | "atLeast" | "above" | "anyBit";
      readonly value: number;
      readonly yes?: string;
      readonly no?: string;
    }
  | { readonly op: "return"; readonly value: number }
  | { readonly op: "label"; readonly name: string };

// linux/bpf_common.h
const CODES = {
  load: 0x20, // BPF_LD | BPF_W | BPF_ABS
  and: 0x54, // BPF_ALU | BPF_AND | BPF_K
  equal: 0x15, // BPF_JMP | BPF_JEQ | BPF_K
  above: 0x25, // BPF_JGT
  atLeast: 0x35, // BPF_JGE
  anyBit: 0x45, // BPF_JSET
  return: 0x06, // BPF_RET | BPF_K
} as const;

export const INSTRUCTION_BYTES = 8; // struct sock_filter
const MAX_JUMP = 255; // jt and jf are bytes

/** @throws Error for an unknown label, one behind the jump, or one too far: a bug in the program */
export function assemble(program: readonly Instruction[]): Uint8Array<ArrayBuffer> {
  const labels = new Map<string, number>();
  const code: Exclude<Instruction, { op: "label" }>[] = [];
  for (const instruction of program) {
    if (instruction.op === "label") labels.set(instruction.name, code.length);
    else code.push(instruction);
  }
  const data = new DataView(new ArrayBuffer(code.length * INSTRUCTION_BYTES));
  // In one piece: a function for each instruction is called so often that the runtime compiles it, at every start.
  for (let index = 0; index < code.length; index++) {
    const instruction = code[index];
    if (instruction === undefined) continue;
    const at = index * INSTRUCTION_BYTES;
    const yes = "yes" in instruction ? instruction.yes : undefined;
    const no = "no" in instruction ? instruction.no : undefined;
    const toYes = yes === undefined ? 0 : (labels.get(yes) ?? -1) - index - 1;
    const toNo = no === undefined ? 0 : (labels.get(no) ?? -1) - index - 1;
    if (toYes < 0 || toYes > MAX_JUMP) throw wrongJump(yes, toYes, labels);
    if (toNo < 0 || toNo > MAX_JUMP) throw wrongJump(no, toNo, labels);
    data.setUint16(at, CODES[instruction.op], true);
    data.setUint8(at + 2, toYes);
    data.setUint8(at + 3, toNo);
    data.setUint32(at + 4, instruction.op === "load" ? instruction.offset : instruction.value, true);
  }
  return new Uint8Array(data.buffer);
}

function wrongJump(label: string | undefined, steps: number, labels: ReadonlyMap<string, number>): Error {
  const isKnown = label !== undefined && labels.has(label);
  return new Error(`Cannot jump to "${label}": ${isKnown ? `${steps} steps away` : "no such label"}`);
}
