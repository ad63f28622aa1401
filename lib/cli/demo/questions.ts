/** Small messages: the names of a file tree, each sent back before the next one is sent, through a channel and through sockets. */
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../package-root.ts";
import { CommandFailure } from "../report-error.ts";
import { CHANNEL } from "./echo.ts";
import { freePort } from "./transfer.ts";
import type { Workspace } from "./workspace.ts";

/** Each is asked some thirty times, and takes TCP up to 0.1 ms. */
const MOST_NAMES = 1000;

export type Names = { readonly path: string; readonly count: number };

/** Writes down the names of a tree of the package, one a line. */
export function listNames(workspace: Workspace, tree: string): Names {
  const all = readdirSync(join(packageRoot(), tree), { recursive: true, encoding: "latin1" });
  const names = all.filter((name) => !name.includes("\n")).slice(0, MOST_NAMES);
  const path = workspace.file("names.txt");
  writeFileSync(path, names.join("\n"), "latin1");
  return { path, count: names.length };
}

export type Answered = { readonly title: string; readonly nanoseconds: number };

/** One way after the other: how long a question and its answer take.
 *  @throws CommandFailure when an answer is not the question */
export async function askAll(
  workspace: Workspace,
  names: Names,
  onRun: (title: string) => void,
): Promise<readonly Answered[]> {
  const ways = [
    ["channel", `${CHANNEL}names`],
    ["Unix socket", workspace.file("names.sock")],
    ["TCP on loopback", String(await freePort())],
  ] as const;
  const results: Answered[] = [];
  for (const [title, where] of ways) {
    onRun(title);
    results.push({ title, nanoseconds: await askOver(workspace, names, where) });
  }
  return results;
}

async function askOver(workspace: Workspace, { path }: Names, where: string): Promise<number> {
  const answering = workspace.shmlink(["demo", "--relay=answer", `--at=${where}`]);
  const asking = workspace.shmlink(["demo", "--relay=ask", `--at=${where}`], { input: path });
  const [printed] = await Promise.all([asking.succeed(), answering.succeed()]);
  const nanoseconds = Number(printed);
  if (nanoseconds > 0) return nanoseconds;
  throw new CommandFailure(`Cannot go on: "${printed.trim()}" is no time`);
}
