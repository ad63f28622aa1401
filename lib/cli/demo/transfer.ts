/** A file tree from one process to another: through a channel, and beside it through a Unix socket and loopback TCP. */
import { createHash } from "node:crypto";
import { createReadStream, lstatSync, readdirSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { packageRoot } from "../package-root.ts";
import { CommandFailure } from "../report-error.ts";
import { median } from "./median.ts";
import type { Running, Workspace } from "./workspace.ts";

/** Enough to measure, little enough for a minute on a slow machine and a small /tmp. */
const MAX_TREE_BYTES = 256 * 2 ** 20;
const ROUNDS = 3;

export type Archive = {
  readonly path: string;
  readonly bytes: number;
  readonly files: number;
  readonly hash: string;
  readonly tree: string;
};

/** Packs what npm installed, as much of it as is sensible. */
export async function packTree(workspace: Workspace): Promise<Archive> {
  const root = packageRoot();
  const tree = isDirectory(join(root, "node_modules")) ? "node_modules" : "lib";
  const { members, files } = chooseMembers(root, tree);
  const path = workspace.file("files.tar");
  await workspace.start("tar", ["cf", path, "-C", root, ...members]).succeed();
  return { path, bytes: statSync(path).size, files, hash: await hashFile(path), tree };
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

type Members = { readonly members: string[]; readonly files: number };

/** Folders of the tree, in order, as long as they fit. */
function chooseMembers(root: string, tree: string): Members {
  const members: string[] = [];
  let totalBytes = 0;
  let files = 0;
  for (const name of readdirSync(join(root, tree)).sort()) {
    const size = measure(join(root, tree, name));
    if (totalBytes + size.bytes > MAX_TREE_BYTES) continue;
    members.push(join(tree, name));
    totalBytes += size.bytes;
    files += size.files;
  }
  if (members.length === 0)
    throw new CommandFailure(`Cannot pack "${join(root, tree)}": nothing in it is small enough`);
  return { members, files };
}

function measure(path: string): { readonly bytes: number; readonly files: number } {
  const status = lstatSync(path);
  if (!status.isDirectory()) return { bytes: status.size, files: 1 };
  const parts = readdirSync(path).map((name) => measure(join(path, name)));
  return {
    bytes: parts.reduce((sum, part) => sum + part.bytes, 0),
    files: parts.reduce((sum, part) => sum + part.files, 0),
  };
}

async function hashFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Uint8Array);
  return hash.digest("hex");
}

export type Way = {
  readonly title: string;
  readonly receive: (output: string) => Running;
  readonly send: (input: string) => Running;
};

export type Result = { readonly title: string; readonly bytesPerSecond: number };

/** Every way in turn, several times over, so that what else the machine does hits all of them alike.
 *  @throws CommandFailure when what arrived is not what was sent */
export async function compareWays(
  workspace: Workspace,
  archive: Archive,
  onRun: (title: string, round: number, rounds: number) => void,
): Promise<Result[]> {
  const ways = [channelWay(workspace), unixWay(workspace), await tcpWay(workspace)];
  const rates = ways.map((): number[] => []);
  for (let round = 1; round <= ROUNDS; round++) {
    for (const [index, way] of ways.entries()) {
      onRun(way.title, round, ROUNDS);
      rates[index]?.push(await transfer(workspace, archive, way));
    }
  }
  return ways.map(({ title }, index) => ({ title, bytesPerSecond: median(rates[index] ?? []) }));
}

async function transfer(workspace: Workspace, archive: Archive, way: Way): Promise<number> {
  const output = workspace.file("received.tar");
  const receiver = way.receive(output);
  const sender = way.send(archive.path);
  await Promise.all([receiver.succeed(), sender.succeed()]);
  const { stderr } = await receiver.wait();
  const hash = await hashFile(output);
  rmSync(output);
  if (hash === archive.hash) return parseRate(stderr);
  throw new CommandFailure(`Cannot trust the ${way.title}: SHA-256 "${hash}" arrived, "${archive.hash}" was sent`);
}

/** From the line that -v prints: first byte to last, as the receiver saw it, without the start of the processes. */
function parseRate(summary: string): number {
  const [, value, unit] = /, ([\d.]+) (B|KiB|MiB|GiB)\/s\s*$/.exec(summary) ?? [];
  if (value === undefined || unit === undefined) throw new Error(`no rate in "${summary}"`);
  return Number(value) * 1024 ** ["B", "KiB", "MiB", "GiB"].indexOf(unit);
}

function channelWay(workspace: Workspace): Way {
  return {
    title: "channel",
    receive: (output) => workspace.shmlink(["listen", "-v", "files"], { output }),
    send: (input) => workspace.shmlink(["dial", "files"], { input }),
  };
}

function unixWay(workspace: Workspace): Way {
  const path = workspace.file("plain.sock");
  return relayWay(workspace, "Unix socket", () => {
    rmSync(path, { force: true });
    return path;
  });
}

async function tcpWay(workspace: Workspace): Promise<Way> {
  // A port that is used once is in TIME_WAIT afterwards, so each round has one of its own.
  const ports: number[] = [];
  for (let round = 0; round < ROUNDS; round++) ports.push(await freePort());
  return relayWay(workspace, "TCP on loopback", () => String(ports.shift() ?? 0));
}

function relayWay(workspace: Workspace, title: string, choose: () => string): Way {
  let where = "";
  const args = (role: string): string[] => ["demo", `--relay=${role}`, `--at=${where}`];
  return {
    title,
    receive: (output) => {
      where = choose();
      return workspace.shmlink(args("receive"), { output });
    },
    send: (input) => workspace.shmlink(args("send"), { input }),
  };
}

/** A port of 127.0.0.1 that nobody uses now. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}
