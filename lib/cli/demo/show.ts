/** The demonstration's four acts, told as they happen. */
import { formatBytes, formatDuration, formatMicroseconds } from "../numbers.ts";
import { printError, printText } from "../output.ts";
import { packageRoot } from "../package-root.ts";
import type { EntryRecord, Listing } from "../records.ts";
import { CommandFailure } from "../report-error.ts";
import { askAll, listNames } from "./questions.ts";
import { clientLine, expectedPage, PAGE, type ProgramLine, serverLine } from "./server.ts";
import { compareWays, freePort, packTree } from "./transfer.ts";
import { type Running, until, type Workspace } from "./workspace.ts";

const READY_MS = 20_000;
const CLEAR_LINE = "\r\u001b[K";

export async function showAll(workspace: Workspace): Promise<void> {
  const start = performance.now();
  printText(`shmlink, shown on real data. All of it happens in ${workspace.path}, which is removed at the end.\n`);
  await showBroker(workspace);
  const tree = await showTransfer(workspace);
  await showQuestions(workspace, tree);
  await showWrap(workspace);
  await workspace.close();
  printText(
    `\nDone in ${formatDuration(performance.now() - start)}. The processes, sockets and files are gone again.\n`,
  );
}

async function showBroker(workspace: Workspace): Promise<void> {
  heading("1. A broker that starts when somebody asks");
  command("shmlink ls");
  const text = await workspace.shmlink(["ls"]).succeed();
  printText(indent(text));
}

/** @returns the tree that was sent */
async function showTransfer(workspace: Workspace): Promise<string> {
  heading("2. A file tree from one process to another");
  progress("packing …");
  const archive = await packTree(workspace);
  progress("");
  printText(`   ${archive.files} files of ${archive.tree}, ${formatBytes(archive.bytes)} as a tar archive\n`);
  command("shmlink listen files > received.tar &");
  command("shmlink dial files < files.tar");
  const results = await compareWays(workspace, archive, (title, round, rounds) =>
    progress(`${title}, ${round} of ${rounds} …`),
  );
  progress("");
  for (const { title, bytesPerSecond } of results) {
    printText(
      `   ${title.padEnd(16)}  ${`${formatBytes(bytesPerSecond)}/s`.padStart(12)}   SHA-256 equal at both ends\n`,
    );
  }
  printText(`   sha256 ${archive.hash}\n`);
  printText("   (from file to file, most of which is reading and writing the files; medians of three runs, in turn)\n");
  return archive.tree;
}

async function showQuestions(workspace: Workspace, tree: string): Promise<void> {
  heading("3. Questions and answers");
  const names = listNames(workspace, tree);
  printText(`   ${names.count} names of ${tree}, each sent back before the next one is sent\n`);
  const results = await askAll(workspace, names, (title) => progress(`${title} …`));
  progress("");
  for (const { title, nanoseconds } of results) {
    printText(`   ${title.padEnd(16)}  ${formatMicroseconds(nanoseconds).padStart(12)} each, there and back\n`);
  }
  printText(
    "   (medians of eleven rounds, after twenty to warm up; who waits at a channel looks for a moment before he sleeps)\n",
  );
}

async function showWrap(workspace: Workspace): Promise<void> {
  heading("4. An unmodified server, reached over a Unix socket by its TCP address");
  const port = await freePort();
  const server = serverLine(port);
  command(`shmlink wrap -- ${server.shown} &`);
  const running = workspace.shmlink(["wrap", "--", server.program, ...server.args], { directory: packageRoot() });
  await until("the wrapped server", READY_MS, async () => {
    if (running.failure !== undefined) throw new CommandFailure(`Cannot go on: ${running.failure}`);
    return (await listing(workspace)).listeners.find((record) => record["port"] === port);
  });
  const client = clientLine(`http://127.0.0.1:${port}/${PAGE}`);
  await fetchPage(client, workspace.start(client.program, client.args), "", "over TCP, as ever");
  const wrapped = workspace.shmlink(["wrap", "--", client.program, ...client.args]);
  await fetchPage(client, wrapped, "shmlink wrap -- ", "over the Unix socket");
  await showTable(workspace, port);
  await running.end();
}

async function fetchPage(client: ProgramLine, running: Running, prefix: string, how: string): Promise<void> {
  command(`${prefix}${client.shown}`);
  const page = await running.succeed();
  if (page !== expectedPage())
    throw new CommandFailure(`Cannot go on: "${client.shown}" fetched something else than ${PAGE}`);
  printText(`   ${page.length} bytes ${how}, the right ones\n`);
}

/** With a channel open, so that there is one of each to see. */
async function showTable(workspace: Workspace, port: number): Promise<void> {
  command("shmlink listen --keep --message chat &   # and in another terminal: shmlink dial --message chat");
  const listener = workspace.shmlink(["listen", "--keep", "--message", "chat"], { input: "pipe" });
  const dialler = workspace.shmlink(["dial", "--message", "chat"], { input: "pipe" });
  dialler.write("Hello through shared memory\n");
  await until("the message", READY_MS, async () => {
    for (const { failure } of [listener, dialler])
      if (failure !== undefined) throw new CommandFailure(`Cannot go on: ${failure}`);
    return (await listing(workspace)).channels.find(hasArrived);
  });
  command("shmlink ls");
  printText(indent(await workspace.shmlink(["ls"]).succeed()));
  const counted = (await listing(workspace)).listeners.find((record) => record["port"] === port);
  const { unix = 0, tcp = 0 } = (counted?.["connections"] ?? {}) as Readonly<Record<string, number>>;
  if (unix < 1 || tcp < 1)
    throw new CommandFailure(
      `Cannot go on: ${unix} connections came by Unix socket, ${tcp} by TCP; one each was wanted`,
    );
  dialler.endInput();
  listener.endInput();
  await dialler.succeed();
}

function hasArrived(record: EntryRecord): boolean {
  const { messages = 0, fill = 1 } = (record["toService"] ?? {}) as Readonly<Record<string, number>>;
  return messages > 0 && fill === 0;
}

async function listing(workspace: Workspace): Promise<Listing> {
  return JSON.parse(await workspace.shmlink(["ls", "--json"]).succeed()) as Listing;
}

function heading(text: string): void {
  printText(`\n${text}\n`);
}

function command(line: string): void {
  printText(`   $ ${line}\n`);
}

function indent(text: string): string {
  return text.replace(/^(?=.)/gm, "   ");
}

function progress(text: string): void {
  if (process.stderr.isTTY === true) printError(`${CLEAR_LINE}${text === "" ? "" : `   ${text}`}`);
}
