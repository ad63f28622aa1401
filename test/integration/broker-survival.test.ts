/** A broker that is killed: channels go on, and what living commands offered is there again with the next one. */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { constants, kill } from "../../ffi/mod.ts";
import { isRunning, TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { Staying } from "../helpers/staying.ts";

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
