/** Runs a program of the test driver to its end, with a limit, after which it and all it started are killed. */
import { spawn } from "node:child_process";
import { ROOT } from "./runtimes.ts";

export type Finished = {
  readonly code: number | null;
  /** stdout and stderr as they came. */
  readonly output: string;
  readonly seconds: number;
  readonly timedOut: boolean;
};

export function runCommand(
  command: readonly string[],
  options: { readonly limitMs: number; readonly env?: Readonly<Record<string, string | undefined>> },
): Promise<Finished> {
  const [program = "", ...args] = command;
  const started = Date.now();
  const parts: string[] = [];
  let timedOut = false;
  // A group of its own, so that the limit reaches what a test started too.
  const child = spawn(program, args, {
    cwd: ROOT,
    env: { ...process.env, ...options.env },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  const timer = setTimeout(() => {
    timedOut = true;
    if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
  }, options.limitMs);
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (part) => parts.push(String(part)));
  return new Promise((resolve) => {
    const finish = (code: number | null): void => {
      clearTimeout(timer);
      resolve({ code, output: parts.join(""), seconds: (Date.now() - started) / 1000, timedOut });
    };
    child.on("error", (error) => {
      parts.push(error.message);
      finish(null);
    });
    child.on("exit", (code) => {
      // A grandchild may hold our pipes open; what it writes later is not waited for.
      setTimeout(() => {
        child.stdout.destroy();
        child.stderr.destroy();
        finish(code);
      }, 20);
    });
  });
}
