/** Where programs are measured: a folder with a broker of its own, and programs alone or under a supervisor. */
import { type ChildProcess, type ChildProcessByStdio, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { BUILD } from "./baseline.ts";

const LAUNCHER: string = fileURLToPath(new URL("../bin/shmlink", import.meta.url));

/** `c`: the least that a supervisor can do (c/handoff.c). `filter`: the least that a filter can be (c/filtered.c). */
export type Under = "nothing" | "wrap" | "c" | "filter";
const UNDER: Readonly<Record<Under, readonly string[]>> = {
  nothing: [],
  wrap: [LAUNCHER, "wrap", "--"],
  c: [`${BUILD}handoff`],
  filter: [`${BUILD}filtered`],
};

/** A folder with servers, each native and wrapped, and a broker of their own. */
export class Bench {
  readonly folder: string = mkdtempSync("/tmp/shm-bench-");
  readonly #children: ChildProcess[] = [];
  readonly #env: NodeJS.ProcessEnv = { ...process.env, SHMLINK_SOCKET: join(this.folder, "broker.sock") };
  #port: number = 21_000 + (process.pid % 1000) * 8;

  port(): number {
    this.#port += 1;
    return this.#port;
  }

  start(argv: readonly string[], under: Under): ChildProcess {
    const [program = "", ...args] = [...UNDER[under], ...argv];
    const path = `${process.env["PATH"]}:/usr/sbin`;
    const child = spawn(program, args, { env: { ...this.#env, PATH: path }, stdio: "ignore", cwd: this.folder });
    this.#children.push(child);
    return child;
  }

  /** One that is told what to do by lines. */
  converse(argv: readonly string[], under: Under): ChildProcessByStdio<Writable, Readable, null> {
    const [program = "", ...args] = [...UNDER[under], ...argv];
    const child = spawn(program, args, { env: this.#env, stdio: ["pipe", "pipe", "inherit"] });
    this.#children.push(child);
    return child;
  }

  run(argv: readonly string[], under: Under): string {
    const [program = "", ...args] = [...UNDER[under], ...argv];
    return execFileSync(program, args, { env: this.#env, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
  }

  async end(): Promise<void> {
    for (const child of this.#children) child.kill("SIGTERM");
    await Promise.all(this.#children.map((child) => child.exitCode ?? new Promise((done) => child.on("exit", done))));
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function answers(address: number | string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = typeof address === "number" ? connect(address, "127.0.0.1") : connect(address);
    socket.on("connect", () => resolve(true)).on("error", () => resolve(false));
    socket.on("connect", () => socket.destroy());
  });
}

export async function untilServed(address: number | string): Promise<void> {
  for (let tries = 0; tries < 500; tries++) {
    if (await answers(address)) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`Cannot measure: nobody serves ${address}`);
}
