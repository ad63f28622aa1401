/** The command line on one runtime with a broker of its own: every call is a process, as a user's would be. */
import { afterAll } from "bun:test";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { constants, kill } from "../../ffi/mod.ts";
import { BrokerLink } from "../../lib/client/broker-link.ts";
import { brokerPid, isRunning, waitUntil } from "../helpers/broker.ts";
import type { Runtime } from "../helpers/runtimes.ts";

/** No configuration in it, and what runtimes put there is not among the command's own files. */
const HOME = mkdtempSync("/tmp/shm-home-");
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

export type Result = {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly text: string;
  readonly stderr: string;
};

export type RunOptions = {
  readonly input?: string | Uint8Array;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** A descriptor or "ignore" in place of the pipe. */
  readonly stdin?: number | "ignore";
  readonly stdout?: number;
};

export class Cli implements AsyncDisposable {
  readonly directory: string = mkdtempSync("/tmp/shm-cli-");
  readonly socketPath: string = join(this.directory, "broker.sock");
  readonly #runtime: Runtime;
  readonly #running: Set<ChildProcess> = new Set();

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
    mkdirSync(HOME, { recursive: true }); // where several test files share this process
  }

  get env(): Record<string, string | undefined> {
    return { ...process.env, SHMLINK_SOCKET: this.socketPath, SHMLINK_CONFIG: undefined, HOME };
  }

  command(...args: readonly string[]): string[] {
    return this.#runtime.command("bin/shmlink.ts", ...args);
  }

  /** Starts it; stdin stays open until something ends it. */
  start(
    args: readonly string[],
    options: RunOptions = {},
  ): { readonly child: ChildProcess; readonly result: Promise<Result> } {
    const [program = "", ...rest] = this.command(...args);
    const child = spawn(program, rest, {
      env: { ...this.env, ...options.env },
      cwd: options.cwd ?? this.directory,
      stdio: [options.stdin ?? "pipe", options.stdout ?? "pipe", "pipe"],
    });
    this.#running.add(child);
    const [stdout, stderr]: Buffer[][] = [[], []];
    child.stdout?.on("data", (chunk: Buffer) => stdout?.push(chunk));
    child.stderr?.on("data", (chunk: Buffer) => stderr?.push(chunk));
    child.stdin?.on("error", () => undefined);
    const result = new Promise<Result>((resolve) => {
      child.on("close", (code, signal) => {
        this.#running.delete(child);
        const bytes = Buffer.concat(stdout ?? []);
        const status = signal === null ? code : null;
        resolve({
          code: status,
          stdout: bytes,
          text: bytes.toString(),
          stderr: Buffer.concat(stderr ?? []).toString(),
        });
      });
    });
    return { child, result };
  }

  /** Runs it to its end with `input` on stdin. */
  async run(args: readonly string[], options: RunOptions = {}): Promise<Result> {
    const { child, result } = this.start(args, options);
    child.stdin?.end(options.input ?? "");
    return await result;
  }

  /** What the broker knows, asked for without a process. */
  link(): BrokerLink {
    return BrokerLink.connect({ name: "test", env: this.env, start: false });
  }

  /** Waits until somebody offers `name`. */
  async offered(name: string): Promise<void> {
    await waitUntil(() => this.#lists(name, "service"), `"${name}" to be offered`);
  }

  /** Waits until a wrapped program listens on `port`. */
  async listening(port: number): Promise<void> {
    await waitUntil(() => this.#lists(String(port), "listener"), `a listener on port ${port}`);
  }

  #lists(name: string, kind: string): boolean {
    try {
      using link = this.link();
      return link.list(name).some((entry) => entry.kind === kind);
    } catch {
      return false; // no broker yet
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#running) child.kill("SIGKILL");
    const pid = this.#brokerPid();
    if (pid !== undefined) {
      kill(pid, constants.SIGTERM);
      await waitUntil(() => !isRunning(pid), `broker ${pid} to end`);
    }
    rmSync(this.directory, { recursive: true, force: true });
  }

  #brokerPid(): number | undefined {
    try {
      using link = this.link();
      return brokerPid(link);
    } catch {
      return undefined;
    }
  }
}

/** stderr as the contract wants it: one line that begins with "shmlink: ". */
export function errorLine({ stderr }: Result): string {
  const lines = stderr.split("\n");
  if (lines.length !== 2 || lines[1] !== "" || !lines[0]?.startsWith("shmlink: ")) {
    throw new Error(`stderr is not one line of shmlink's: ${JSON.stringify(stderr)}`);
  }
  return lines[0];
}
