/** Processes that stay, with what they write, against a broker of a test, and how that broker ends under them. */
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { constants, kill } from "../../ffi/mod.ts";
import { CHECKOUT, isRunning, type TestBroker, waitUntil } from "./broker.ts";

const ENTRY = join(CHECKOUT, "bin", "shmlink.ts");

export class StayingProgram implements AsyncDisposable {
  readonly child: ChildProcess;
  stdout = "";
  stderr = "";
  closed = false;

  constructor(broker: TestBroker, argv: readonly string[]) {
    const [program = "", ...words] = argv;
    this.child = spawn(program, words, { env: broker.env, stdio: "pipe", cwd: broker.directory });
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
}

/** Processes that run `shmlink broker` for that socket; killed ones that nobody has waited for do not count. */
export function brokersAt(socketPath: string): number[] {
  const isBroker = (pid: number): boolean => {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, "latin1").split("\0");
      const env = readFileSync(`/proc/${pid}/environ`, "latin1").split("\0");
      return words.includes("broker") && env.includes(`SHMLINK_SOCKET=${socketPath}`) && isRunning(pid);
    } catch {
      return false; // ended meanwhile, or another user's
    }
  };
  return readdirSync("/proc").map(Number).filter(Number.isInteger).filter(isBroker);
}

/** Ends the broker there, and waits until it has gone. @returns its pid */
export async function endBroker(broker: TestBroker, signal: "SIGKILL" | "SIGTERM"): Promise<number> {
  const [pid = 0, ...others] = brokersAt(broker.socketPath);
  if (pid === 0 || others.length > 0)
    throw new Error(`There are brokers ${[pid, ...others].join(", ")}, one is wanted`);
  kill(pid, constants[signal]);
  await waitUntil(() => !isRunning(pid), "the broker to be gone");
  return pid;
}
