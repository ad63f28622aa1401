import { expect, test } from "bun:test";
import { constants } from "../../../ffi/mod.ts";
import { assemble, INSTRUCTION_BYTES } from "../../../lib/wrap/bpf.ts";
import { filterProgram } from "../../../lib/wrap/filter.ts";
import { SELDOM_OPTIONS } from "../../../lib/wrap/seldom-options.ts";
import { machineFor } from "../../../lib/wrap/syscalls.ts";

const ALLOW = 0x7fff0000;
const ASK = 0x7fc00000;
const ENOSYS = 0x00050026;

/** What the kernel would do: runs the program over a struct seccomp_data. */
function run(program: Uint8Array, nr: number, arch: number, args: readonly number[] = []): number {
  const data = new DataView(new ArrayBuffer(64));
  data.setUint32(0, nr, true);
  data.setUint32(4, arch, true);
  for (const [index, arg] of args.entries()) data.setUint32(16 + index * 8, arg, true);
  const code = new DataView(program.buffer);
  let accumulator = 0;
  for (let at = 0; ; at++) {
    const base = at * INSTRUCTION_BYTES;
    const [op, jt, jf, k] = [
      code.getUint16(base, true),
      code.getUint8(base + 2),
      code.getUint8(base + 3),
      code.getUint32(base + 4, true),
    ];
    const jump = (holds: boolean): void => {
      at += holds ? jt : jf;
    };
    if (op === 0x20) accumulator = data.getUint32(k, true);
    else if (op === 0x06) return k;
    else if (op === 0x15) jump(accumulator === k);
    else if (op === 0x25) jump(accumulator > k);
    else if (op === 0x35) jump(accumulator >= k);
    else if (op === 0x45) jump((accumulator & k) !== 0);
    else throw new Error(`unknown instruction ${op} at ${at}`);
  }
}

const NUMBERS = {
  x64: {
    read: 0,
    write: 1,
    recvfrom: 45,
    sendmsg: 46,
    epoll_wait: 232,
    bind: 49,
    listen: 50,
    connect: 42,
    accept4: 288,
    setsockopt: 54,
    getsockopt: 55,
    sendto: 44,
  },
  arm64: {
    read: 63,
    write: 64,
    recvfrom: 207,
    sendmsg: 211,
    epoll_wait: 22,
    bind: 200,
    listen: 201,
    connect: 203,
    accept4: 242,
    setsockopt: 208,
    getsockopt: 209,
    sendto: 206,
  },
} as const;

for (const arch of ["x64", "arm64"] as const) {
  const machine = machineFor(arch);
  const program = filterProgram(machine, { ioUring: "refuse" });
  const nr = NUMBERS[arch];
  const decide = (number: number, ...args: number[]): number => run(program, number, machine.auditArch, args);

  test(`filter for ${arch} lets data calls through`, () => {
    for (const number of [nr.read, nr.write, nr.recvfrom, nr.sendmsg, nr.epoll_wait])
      expect(decide(number)).toBe(ALLOW);
    expect(decide(nr.sendto, 3, 1, 1, 0x4000)).toBe(ALLOW);
  });

  test(`filter for ${arch} asks for calls that make connections`, () => {
    for (const number of [nr.bind, nr.listen, nr.connect, nr.accept4]) expect(decide(number)).toBe(ASK);
    expect(decide(nr.sendto, 3, 1, 1, constants.MSG_FASTOPEN)).toBe(ASK);
  });

  test(`filter for ${arch} asks only for options that Unix sockets answer otherwise`, () => {
    for (const call of [nr.setsockopt, nr.getsockopt]) {
      expect(decide(call, 3, constants.IPPROTO_TCP, 1)).toBe(ASK);
      expect(decide(call, 3, constants.IPPROTO_IPV6, 26)).toBe(ASK);
      expect(decide(call, 3, constants.SOL_SOCKET, constants.SO_REUSEPORT)).toBe(ASK);
      expect(decide(call, 3, constants.SOL_SOCKET, constants.SO_KEEPALIVE)).toBe(ALLOW);
      expect(decide(call, 3, 17, 1)).toBe(ALLOW);
    }
  });

  test(`filter for ${arch} asks for the setting of options that are seldom set, and not for their values`, () => {
    for (const name of SELDOM_OPTIONS) {
      expect(decide(nr.setsockopt, 3, constants.SOL_SOCKET, name)).toBe(ASK);
      expect(decide(nr.getsockopt, 3, constants.SOL_SOCKET, name)).toBe(ALLOW);
      expect(decide(nr.setsockopt, 3, 17, name)).toBe(ALLOW);
    }
    for (const often of [constants.SO_KEEPALIVE, constants.SO_RCVTIMEO, constants.SO_SNDTIMEO, constants.SO_RCVLOWAT])
      expect(decide(nr.setsockopt, 3, constants.SOL_SOCKET, often)).toBe(ALLOW);
  });

  test(`filter for ${arch} refuses io_uring on either machine`, () => {
    expect(decide(425)).toBe(ENOSYS);
    expect(run(program, 425, machine.compat.auditArch)).toBe(ENOSYS);
  });

  test(`filter for ${arch} lets no call of another machine pass unnoticed`, () => {
    expect(run(program, nr.connect, 0x12345678)).toBe(ENOSYS);
    for (const [first, last] of machine.compat.socketCalls) {
      expect(run(program, first, machine.compat.auditArch)).toBe(ASK);
      expect(run(program, last, machine.compat.auditArch)).toBe(ASK);
    }
    expect(run(program, 3, machine.compat.auditArch)).toBe(ALLOW);
    if (machine.x32Bit !== 0) expect(decide((machine.x32Bit | nr.connect) >>> 0)).toBe(ENOSYS);
  });
}

test("assemble() refuses a jump to a label that is not ahead", () => {
  expect(() =>
    assemble([
      { op: "label", name: "back" },
      { op: "equal", value: 1, yes: "back" },
    ]),
  ).toThrow("Cannot jump");
  expect(() => assemble([{ op: "equal", value: 1, yes: "nowhere" }])).toThrow("no such label");
});
