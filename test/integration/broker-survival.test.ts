/** A broker that is killed: channels go on, and what living commands offered is there again with the next one. */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { constants, kill } from "../../ffi/mod.ts";
import { CHECKOUT, isRunning, TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { quiet } from "../helpers/process-state.ts";
import { Staying, StayingProgram } from "../helpers/staying.ts";

expectNoFdLeaks();

type Names = { readonly services: string[]; readonly relayed: string[]; readonly contexts: string[] };

async function names(broker: TestBroker): Promise<Names> {
  using link = broker.connect();
  const of = (kind: string): string[] => link.list().flatMap((entry) => (entry.kind === kind ? entry.name : []));
  return { services: of("service"), relayed: of("relayed"), contexts: of("context") };
}

test("after SIGKILL a channel goes on, and services, offers and contexts of living commands are back in ls", async () => {
  await using broker = new TestBroker('[[allow]]\nengine = "test"\naction = ["connect", "list"]\n');
  const file = join(broker.directory, "file");
  writeFileSync(file, "kept");
  const path = join(broker.directory, "ctx.sock");
  await using _kept = new Staying(broker, "offer", "kept", "--fd=0", "--keep");
  await using front = new Staying(broker, "offer", "front", "--tcp=127.0.0.1:0");
  await using _context = new Staying(
    broker,
    "context",
    "create",
    "--engine=test",
    "--app=a",
    "--instance=1",
    `--path=${path}`,
  );
  await using listener = new Staying(broker, "listen", "--keep", "--message", "lines");
  const complete = { services: ["lines"], relayed: ["front", "kept"], contexts: ["test/a/1"] };
  const isComplete = async (): Promise<boolean> => {
    const { services, relayed, contexts } = await names(broker);
    return Bun.deepEquals({ services, relayed: relayed.sort(), contexts }, complete);
  };
  const waitFor = async (what: string): Promise<void> => {
    for (let tries = 0; tries < 400 && !(await isComplete()); tries++)
      await new Promise((resolve) => setTimeout(resolve, 25));
    expect(await isComplete(), what).toBe(true);
  };
  await waitFor("before");
  await using dialler = new Staying(broker, "dial", "--message", "lines");
  dialler.child.stdin?.write("before\n");
  await waitUntil(() => listener.stdout === "before\n", "the first line");
  const killed = broker.pid;
  kill(killed, constants.SIGKILL);
  await waitUntil(() => !isRunning(killed), "the broker to be gone");
  dialler.child.stdin?.write("after\n");
  await waitUntil(() => listener.stdout === "before\nafter\n", "the channel to go on without a broker");
  for (const { child } of [dialler, listener]) child.stdin?.end(); // it is served to its end, then the name is offered again
  await waitFor("after");
  expect(broker.pid).not.toBe(killed);
  const port = Number(/:(\d+)\n/.exec(front.stderr)?.[1]);
  await using taker = new Staying(broker, "take", "front", "--wait=20", "--stdio", "--", "echo", "served");
  let answer = "";
  const client = connect({ port, host: "127.0.0.1" });
  client.on("data", (chunk: Buffer) => {
    answer += chunk.toString();
  });
  await waitUntil(() => answer === "served\n", "a connection through the next broker");
  client.destroy();
  await waitUntil(() => taker.closed, "the program to end");
  const inside = await broker.run(["ls", "--json"]);
  expect(inside.code).toBe(0);
}, 60_000);

test("ls --watch goes on with the next broker, and starts none", async () => {
  await using broker = new TestBroker();
  broker.connect().close();
  await using watcher = new Staying(broker, "ls", "--watch", "--json");
  const shown = (): number[] => {
    const lines = watcher.stdout.split("\n").slice(0, -1);
    return lines.map((line) => (JSON.parse(line) as { broker: { owner: { pid: number } } }).broker.owner.pid);
  };
  await waitUntil(() => shown().at(-1) === broker.pid, "the listing");
  kill(broker.pid, constants.SIGKILL);
  await waitUntil(() => watcher.stderr === "shmlink: the broker has ended; waiting for the next one\n", "its end");
  await using next = new Staying(broker, "broker");
  await waitUntil(() => shown().at(-1) !== broker.pid, "the next broker");
  expect(shown().at(-1)).toBe(next.child.pid as number);
  expect(watcher.closed).toBe(false);
}, 60_000);

const GOING_ON = "the broker has ended; going on with the next one\n";

/** A command that offers an empty file. */
function offerFile(broker: TestBroker, name: string): StayingProgram {
  writeFileSync(join(broker.directory, "file"), "");
  const offer = [process.execPath, join(CHECKOUT, "bin", "shmlink.ts"), "offer", name, "--fd=0"];
  return new StayingProgram(broker, ["sh", "-c", `exec "$@" <file`, "sh", ...offer]);
}

async function sessionsOf(broker: TestBroker): Promise<number> {
  const { stdout } = await broker.run(["ls", "--json"]);
  return (JSON.parse(stdout) as { readonly broker: { readonly sessions: number } }).broker.sessions;
}

test("a listen that nobody has dialled yet, and a take that waits, go on with the next broker", async () => {
  await using broker = new TestBroker();
  broker.connect().close();
  await using listener = new Staying(broker, "listen", "once", "--message");
  await using taker = new Staying(broker, "take", "late", "--wait=600", "--", "echo", "taken");
  while ((await sessionsOf(broker)) < 3); // with the one that asks
  for (const { child } of [listener, taker]) await quiet(child.pid ?? 0); // and have said all
  await sessionsOf(broker); // and the broker has come to that
  kill(broker.pid, constants.SIGKILL);
  for (const each of [listener, taker])
    await waitUntil(() => each.stderr.includes(GOING_ON), "the end of the broker to be noticed");
  await using _offer = offerFile(broker, "late");
  await using dialler = new Staying(broker, "dial", "once", "--message", "--wait=600");
  dialler.child.stdin?.end("dialled\n");
  listener.child.stdin?.end();
  await waitUntil(() => [listener, taker, dialler].every(({ closed }) => closed), "all of them to be done");
  expect([listener.stdout, listener.child.exitCode, taker.stdout, taker.child.exitCode]).toEqual([
    "dialled\n",
    0,
    "taken\n",
    0,
  ]);
  broker.connect().close(); // which is the test's to end
}, 60_000);

test("a listen --keep is in the listing again while it serves who dialled before the broker ended", async () => {
  await using broker = new TestBroker();
  broker.connect().close();
  await using listener = new Staying(broker, "listen", "--keep", "--message", "busy");
  await using first = new Staying(broker, "dial", "busy", "--message", "--wait=600");
  first.child.stdin?.write("before\n");
  await waitUntil(() => listener.stdout === "before\n", "the first to be served");
  kill(broker.pid, constants.SIGKILL);
  await waitUntil(() => listener.stderr.includes(GOING_ON), "the end of the broker to be noticed");
  using link = broker.connect();
  await waitUntil(() => link.list("busy").length > 0, "the name to be offered again");
  await using second = new Staying(broker, "dial", "busy", "--message", "--wait=600");
  second.child.stdin?.end("second\n");
  first.child.stdin?.end("after\n");
  listener.child.stdin?.end();
  await waitUntil(() => listener.stdout === "before\nafter\nsecond\n", "both to be served");
  expect(listener.child.exitCode).toBe(null);
}, 60_000);

test("what take --keep has started before the broker ended is told to end with it, and waited for", async () => {
  await using broker = new TestBroker();
  broker.connect().close();
  const script = `trap 'echo ended; kill $!; exit' TERM; sleep 600 >/dev/null 2>&1 & echo started; wait`;
  await using taker = new Staying(broker, "take", "--keep", "job", "--", "sh", "-c", script);
  await using _offer = offerFile(broker, "job");
  await waitUntil(() => taker.stdout === "started\n", "the program to run");
  kill(broker.pid, constants.SIGKILL);
  await waitUntil(() => taker.stderr.includes(GOING_ON), "the end of the broker to be noticed");
  taker.child.kill("SIGTERM");
  await waitUntil(() => taker.closed, "take to end");
  expect([taker.stdout, taker.child.exitCode]).toEqual(["started\nended\n", 143]);
  broker.connect().close(); // which is the test's to end
}, 60_000);
