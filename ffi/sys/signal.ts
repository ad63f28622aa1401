/**
 * Signals as bytes on a pipe. A loop that waits in epoll does not turn its runtime's event loop, so process.on() would
 * never fire, and signalfd(2) needs the signal blocked in *every* thread, which a runtime does not let us do. A handler
 * in machine code that writes the signal's number to a pipe works on whichever thread it runs.
 */
import { calls } from "../calls.ts";
import { installCode, MACHINE, machineCode } from "../code-page.ts";
import { O_NONBLOCK, SA_RESTART, SA_RESTORER, SA_SIGINFO, SIG_BLOCK, SIG_UNBLOCK } from "../constants.ts";
import { check, SyscallError } from "../errno.ts";
import type { OwnedFd } from "../fd.ts";
import { allocateEach } from "../memory.ts";
import { KERNEL_SIGACTION } from "../structs/process.ts";
import { pipe, read } from "./io.ts";

const [NEW, OLD] = allocateEach(KERNEL_SIGACTION.size, KERNEL_SIGACTION.size);
const [NEW_MASK, OLD_MASK] = allocateEach(8, 8);

function exchange(signal: number, action: Uint8Array): Uint8Array {
  NEW.bytes.set(action);
  const result = calls.rtSigaction(signal, NEW.address, OLD.address, 8);
  if (result < 0) throw new SyscallError("rt_sigaction", -result, String(signal));
  return OLD.bytes.slice();
}

/** Whether this process ignores `signal` (SIG_IGN), as it may have been told to by nohup(1) or its runtime. */
export function isIgnored(signal: number): boolean {
  check(calls.rtSigaction(signal, 0, OLD.address, 8), "rt_sigaction", String(signal));
  return KERNEL_SIGACTION.read(OLD.data).handler === 1;
}

function handlerAction(codeAddress: number): Uint8Array {
  const data = new DataView(new ArrayBuffer(KERNEL_SIGACTION.size));
  KERNEL_SIGACTION.write(data, {
    handler: codeAddress + MACHINE.offsets.onSignal,
    flags: SA_RESTART | SA_RESTORER | SA_SIGINFO,
    restorer: codeAddress + MACHINE.offsets.restore,
    mask: 0n,
  });
  return new Uint8Array(data.buffer);
}

function maskOf(signals: readonly number[]): bigint {
  return signals.reduce((mask, signal) => mask | (1n << BigInt(signal - 1)), 0n);
}

/** @returns what this thread blocked before */
function changeMask(how: number, mask: bigint): bigint {
  NEW_MASK.data.setBigUint64(0, mask, true);
  check(calls.rtSigprocmask(how, NEW_MASK.address, OLD_MASK.address, 8), "rt_sigprocmask");
  return OLD_MASK.data.getBigUint64(0, true);
}

/** bit 7 of what the handler writes (machine/x64.s) */
const FROM_PROCESS = 0x80;

export type SentSignal = {
  readonly signal: number;
  /** Sent with kill(2) and the like; not by the kernel, as for Ctrl-C or the end of a child. */
  readonly fromProcess: boolean;
};

/** Takes over `signals` until closed; `fd` becomes readable when one arrives, also of those that we inherited blocked. */
export class SignalPipe implements Disposable {
  readonly fd: OwnedFd;
  readonly #writer: OwnedFd;
  readonly #previous: Map<number, Uint8Array> = new Map();
  /** What this thread blocked before. */
  readonly #mask: bigint;
  readonly #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(64);

  constructor(signals: readonly number[]) {
    const { reader, writer } = pipe(O_NONBLOCK);
    this.fd = reader;
    this.#writer = writer;
    const action = handlerAction(installCode(machineCode(writer.number)));
    for (const signal of signals) this.#previous.set(signal, exchange(signal, action));
    this.#mask = changeMask(SIG_UNBLOCK, maskOf(signals));
  }

  /** The signals that arrived since the last call, oldest first. */
  take(): number[] {
    return this.takeSent().map(({ signal }) => signal);
  }

  /** take(), with where each came from. */
  takeSent(): SentSignal[] {
    const count = read(this.fd, this.#bytes) ?? 0;
    return Array.from(this.#bytes.subarray(0, count), (byte) => {
      return { signal: byte & ~FROM_PROCESS, fromProcess: (byte & FROM_PROCESS) !== 0 };
    });
  }

  /** Puts the earlier dispositions back. Safe to call twice. */
  close(): void {
    const unblocked = this.#mask & maskOf([...this.#previous.keys()]);
    if (unblocked !== 0n) changeMask(SIG_BLOCK, unblocked);
    for (const [signal, action] of this.#previous) exchange(signal, action);
    this.#previous.clear();
    this.fd.close();
    this.#writer.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
