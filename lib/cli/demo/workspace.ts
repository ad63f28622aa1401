/**
 * A place of its own for the demonstration, and everything that has to be taken away again: its processes, its broker,
 * its files. Nothing of the user's is touched: the broker's socket is in here.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { launcherPath } from "../package-root.ts";
import { CommandFailure } from "../report-error.ts";

const MAX_DIRECTORY_CHARACTERS = 50; // a socket's path has 107 bytes at most, and ours need some 50 below this
const MOST_CHARACTERS = 200; // of a command line or of what it says, in a message
const POLL_MS = 20;
const KILL_AFTER_MS = 3000;

export type Finished = { readonly exitCode: number; readonly stdout: string; readonly stderr: string };

export type StartOptions = {
  /** A file for stdin; nothing without it, and "pipe" for one that we write to. */
  readonly input?: string;
  /** A file for stdout; collected without it. */
  readonly output?: string;
  readonly directory?: string;
};

export class Workspace {
  readonly path: string;
  readonly #env: Record<string, string | undefined>;
  readonly #running: Set<Running> = new Set();
  #closed = false;

  constructor() {
    const base = tmpdir().length <= MAX_DIRECTORY_CHARACTERS ? tmpdir() : "/tmp";
    this.path = mkdtempSync(join(base, "shmlink-demo-"));
    this.#env = { ...process.env, SHMLINK_SOCKET: join(this.path, "broker.sock"), ...sameRuntime() };
    delete this.#env["SHMLINK_FD"];
  }

  file(name: string): string {
    return join(this.path, name);
  }

  /** Starts a program that is ended with the workspace at the latest. */
  start(program: string, args: readonly string[], options: StartOptions = {}): Running {
    if (this.#closed) throw new Error("Cannot start a program: the workspace is closed");
    const files = [options.input, options.output].map((path, index) => {
      if (path === undefined || path === "pipe") return undefined;
      return openSync(path, index === 0 ? "r" : "w", 0o600);
    });
    try {
      const child = spawn(program, [...args], {
        env: this.#env,
        cwd: options.directory ?? this.path,
        detached: true, // Ctrl-C is for us, who end them in order
        stdio: [files[0] ?? (options.input === "pipe" ? "pipe" : "ignore"), files[1] ?? "pipe", "pipe"],
      });
      const running = new Running(child, [program, ...args].join(" "));
      this.#running.add(running);
      return running;
    } finally {
      for (const fd of files) if (fd !== undefined) closeSync(fd);
    }
  }

  /** Starts shmlink itself, by its launcher, as a user would. */
  shmlink(args: readonly string[], options: StartOptions = {}): Running {
    return this.start(launcherPath(), args, options);
  }

  /** Ends what still runs, the broker last, and removes the files. Safe to call twice. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await Promise.all([...this.#running].map((running) => running.end()));
    await this.#endBroker();
    rmSync(this.path, { recursive: true, force: true });
  }

  /** Nobody's children: the broker, which may still be starting, and who holds descriptors for it. They are found by the
   *  socket that they were given. */
  async #endBroker(): Promise<void> {
    const asked = new Set<number>();
    for (const start = performance.now(); ; await sleep(POLL_MS)) {
      const left = processesWith(`SHMLINK_SOCKET=${this.#env["SHMLINK_SOCKET"]}`);
      if (left.length === 0) return;
      const isLate = performance.now() - start > KILL_AFTER_MS;
      for (const pid of left) if (isLate || !asked.has(pid)) endProcess(pid, isLate ? "SIGKILL" : "SIGTERM");
      if (isLate) return;
      for (const pid of left) asked.add(pid);
    }
  }
}

/** A process that the demonstration started. */
export class Running {
  readonly pid: number | undefined;
  readonly #child: ChildProcess;
  readonly #title: string;
  readonly #exited: Promise<number>;
  #stdout = "";
  #stderr = "";
  #hasExited = false;

  constructor(child: ChildProcess, title: string) {
    this.#child = child;
    this.#title = shorten(title);
    this.pid = child.pid;
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.#stdout += text;
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr += text;
    });
    child.stdin?.on("error", () => undefined); // it may end before it has read all
    this.#exited = new Promise((resolve) => {
      child.on("error", (error) => {
        this.#stderr += error.message;
        this.#hasExited = true;
        resolve(127);
      });
      child.on("close", (code, signal) => {
        this.#hasExited = true;
        resolve(code ?? (signal === null ? 1 : 128));
      });
    });
  }

  write(text: string): void {
    this.#child.stdin?.write(text);
  }

  endInput(): void {
    this.#child.stdin?.end();
  }

  async wait(): Promise<Finished> {
    const exitCode = await this.#exited;
    return { exitCode, stdout: this.#stdout, stderr: this.#stderr };
  }

  /** wait(), and anything but 0 is an error. @throws CommandFailure with what it said */
  async succeed(): Promise<string> {
    const { exitCode, stdout, stderr } = await this.wait();
    if (exitCode === 0) return stdout;
    const said = shorten(stderr.trim().replaceAll("\n", "; "));
    throw new CommandFailure(`Cannot go on: "${this.#title}" ended with ${exitCode}${said === "" ? "" : `: ${said}`}`);
  }

  /** Whether it has ended by itself; what it said then. */
  get failure(): string | undefined {
    return this.#hasExited ? `"${this.#title}" ended early: ${this.#stderr.trim()}` : undefined;
  }

  async end(): Promise<void> {
    if (this.#hasExited) return;
    this.#child.kill("SIGTERM");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), KILL_AFTER_MS);
    await this.#exited;
    clearTimeout(timer);
  }
}

/** What is first tells most: which program it is, and what it could not do. */
function shorten(text: string): string {
  return text.length <= MOST_CHARACTERS ? text : `${text.slice(0, MOST_CHARACTERS)} …`;
}

/** Repeats `ask` until it has an answer. @throws CommandFailure when it takes longer than `limitMs` */
export async function until<T>(
  what: string,
  limitMs: number,
  ask: () => T | undefined | Promise<T | undefined>,
): Promise<T> {
  for (const start = performance.now(); ; ) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (performance.now() - start > limitMs)
      throw new CommandFailure(`Cannot go on: ${what} took longer than ${limitMs / 1000} s`);
    await sleep(POLL_MS);
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** What the demonstration runs on is what it shows. */
function sameRuntime(): Record<string, string> {
  const { bun, deno } = process.versions as Readonly<Record<string, string | undefined>>;
  return { SHMLINK_RUNTIME: bun !== undefined ? "bun" : deno !== undefined ? "deno" : "node" };
}

/** Those that we may see and that were given this variable. */
function processesWith(variable: string): number[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids.map(Number).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(variable);
    } catch {
      return false; // it has ended, or is another user's
    }
  });
}

function endProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
