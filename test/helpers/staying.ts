/** Processes that stay, with what they write, against a broker of a test, and how that broker ends under them. */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { type BorrowedFd, constants, kill } from "../../ffi/mod.ts";
import { CHECKOUT, isRunning, processesAt, type TestBroker, waitUntil } from "./broker.ts";

const ENTRY = join(CHECKOUT, "bin", "shmlink.ts");

export class StayingProgram implements AsyncDisposable {
  readonly child: ChildProcess;
  stdout = "";
  stderr = "";
  closed = false;

  /** @param minted  its connection to the broker, lent */
  constructor(broker: TestBroker, argv: readonly string[], minted?: BorrowedFd) {
    const [program = "", ...words] = argv;
    const env = minted === undefined ? broker.env : { ...broker.env, SHMLINK_FD: "3" };
    const stdio = ["pipe", "pipe", "pipe", ...(minted === undefined ? [] : [minted.number])] as const;
    this.child = spawn(program, words, { env, stdio: [...stdio], cwd: broker.directory });
    this.child.stdout?.on("data", (chunk: Buffer) => {
      this.stdout += chunk.toString();
    });
    this.child.stderr?.on("data", (chunk: Buffer) => {
      this.stderr += chunk.toString();
    });
    this.child.on("close", () => {
      this.closed = true;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill("SIGTERM");
    await waitUntil(() => this.closed, "a command to end");
  }
}

/** `bin/shmlink.ts` with these words. */
export class Staying extends StayingProgram {
  constructor(broker: TestBroker, ...words: readonly string[]) {
    super(broker, [process.execPath, ENTRY, ...words]);
  }

  /** With a connection that was minted for it; lent. */
  static on(minted: BorrowedFd, broker: TestBroker, ...words: readonly string[]): StayingProgram {
    return new StayingProgram(broker, [process.execPath, ENTRY, ...words], minted);
  }
}

/** Processes that run `shmlink broker` for that socket. */
export function brokersAt(socketPath: string): number[] {
  return processesAt(socketPath, "broker");
}

/** Ends the broker there, and waits until it has gone. @returns its pid */
export async function endBroker(broker: TestBroker, signal: "SIGKILL" | "SIGTERM"): Promise<number> {
  // a process that it has forked is called as it is until it executes something else
  let brokers: number[] = [];
  await waitUntil(() => {
    brokers = brokersAt(broker.socketPath);
    return brokers.length === 1;
  }, "there to be one broker");
  const [pid = 0] = brokers;
  kill(pid, constants[signal]);
  await waitUntil(() => !isRunning(pid), "the broker to be gone");
  return pid;
}
