/** Commands that stay where the broker has ended and no other can be started: until one can, or until they are to end. */
import { expect, test } from "bun:test";
import { chmodSync, existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { constants, kill, memfdCreate, type OwnedFd } from "../../ffi/mod.ts";
import type { BrokerLink } from "../../lib/client/broker-link.ts";
import { listenOn } from "../../lib/transport/socket-path.ts";
import type { ObjectId } from "../../lib/util/brand.ts";
import { TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { untilHeld } from "../helpers/holder.ts";
import { quiet } from "../helpers/process-state.ts";
import { StandInBroker } from "../helpers/stand-in-broker.ts";
import { Staying } from "../helpers/staying.ts";

expectNoFdLeaks();

/** The broker is killed, and its directory is one in which nobody starts the next. */
class NoBroker implements Disposable {
  readonly #directory: string;

  constructor({ directory, pid }: TestBroker) {
    this.#directory = directory;
    chmodSync(directory, 0o777);
    kill(pid, constants.SIGKILL);
  }

  [Symbol.dispose](): void {
    chmodSync(this.#directory, 0o700);
  }
}

const ENDED = "shmlink: the broker has ended; going on with the next one\n";
const BACK = "shmlink: connected to a broker again\n";
const tried = ({ directory }: TestBroker): string =>
  `shmlink: Cannot use directory "${directory}": its mode is 0777, others could replace the socket; run chmod go-w on it or set SHMLINK_SOCKET; it is tried again\n`;

/** In it runs a program that ends with 7 when it has read a line, or nothing is left to read. */
function makeContext(broker: TestBroker, path: string): Staying {
  const words = ["--engine=test", "--app=a", "--instance=1", `--path=${path}`];
  return new Staying(broker, "context", "create", ...words, "--", "sh", "-c", "echo runs; read line; exit 7");
}

/** Its programs say that they are told to end, and do nothing else. */
const TAKE_JOBS = ["take", "--keep", "job", "--", "sh", "-c", "trap 'echo told; exit' TERM; echo started; read line"];

async function giveJob(link: BrokerLink, taker: { readonly stdout: string }): Promise<void> {
  const soFar = taker.stdout;
  using offer = link.offer("job");
  using file = memfdCreate("job");
  offer.publish([file]);
  await waitUntil(() => taker.stdout === `${soFar}started\n`, "the program to run");
}

function namesAt(link: BrokerLink): string[] {
  const names = link.list().flatMap(({ kind, name }) => (kind === "broker" ? [] : name));
  return names.sort();
}

const ALL = ["front", "lines", "test/a/1"];

test("commands that stay try again until there is a broker, and say so once", async () => {
  await using broker = new TestBroker();
  const path = join(broker.directory, "context.sock");
  using link = broker.connect();
  await using context = makeContext(broker, path);
  await using offer = new Staying(broker, "offer", "front", `--unix=${join(broker.directory, "front.sock")}`);
  await using listener = new Staying(broker, "listen", "--keep", "lines");
  await using taker = new Staying(broker, ...TAKE_JOBS);
  await giveJob(link, taker);
  await waitUntil(() => Bun.deepEquals(namesAt(link), ALL), "all of them");
  using without = new NoBroker(broker);
  for (const each of [context, offer, listener, taker])
    await waitUntil(() => each.stderr.endsWith(ENDED + tried(broker)), "each to say that there is none");
  without[Symbol.dispose]();
  using next = broker.connect();
  await waitUntil(() => Bun.deepEquals(namesAt(next), ALL), "all of them again");
  await giveJob(next, taker);
  for (const each of [context, listener, taker])
    await waitUntil(() => each.stderr.endsWith(ENDED + tried(broker) + BACK), "each to say that there is one again");
  context.child.stdin?.end("\n");
  await waitUntil(() => context.closed, "the context to end");
  expect([context.child.exitCode, existsSync(path)]).toEqual([7, false]);
}, 60_000);

test("without a broker they end as they are told to, and with what their programs end with", async () => {
  await using broker = new TestBroker();
  const [path, front] = [join(broker.directory, "context.sock"), join(broker.directory, "front.sock")];
  using link = broker.connect();
  await using context = makeContext(broker, path);
  await using offer = new Staying(broker, "offer", "front", `--unix=${front}`);
  await using listener = new Staying(broker, "listen", "--keep", "lines");
  await using taker = new Staying(broker, ...TAKE_JOBS);
  await giveJob(link, taker);
  await waitUntil(() => Bun.deepEquals(namesAt(link), ALL), "all of them");
  await waitUntil(() => context.stdout === "runs\n", "the program in the context");
  using _without = new NoBroker(broker);
  for (const each of [context, offer, listener, taker])
    await waitUntil(() => each.stderr.endsWith(ENDED + tried(broker)), "each to say that there is none");
  expect([existsSync(path), existsSync(front)]).toEqual([true, true]);
  for (const { child } of [offer, listener, taker]) child.kill("SIGTERM");
  context.child.stdin?.end("\n");
  for (const each of [context, offer, listener, taker]) await waitUntil(() => each.closed, "each to end");
  const codes = [context, offer, listener, taker].map(({ child }) => child.exitCode);
  expect(codes).toEqual([7, 143, 143, 143]);
  expect(taker.stdout).toBe("started\ntold\n");
  expect([existsSync(path), existsSync(front)]).toEqual([false, false]);
}, 60_000);

test("a take that waits does so no longer than it was told, also without a broker", async () => {
  await using broker = new TestBroker();
  using link = broker.connect({ reconnect: false });
  await using taker = new Staying(broker, "take", "nothing", "--wait=3", "--", "true");
  const isIn = (): boolean => link.list().find(({ kind }) => kind === "broker")?.details["sessions"] === 2;
  await waitUntil(() => taker.closed || isIn(), "take to be connected");
  await quiet(taker.child.pid ?? 0); // and to have said all
  link.sync(); // and the broker to have come to that
  kill(broker.pid, constants.SIGKILL);
  await waitUntil(() => taker.closed || taker.stderr.includes(ENDED), "take to see that");
  broker.connect().close();
  using _without = new NoBroker(broker);
  await waitUntil(() => taker.closed, "take to give up");
  expect(taker.stderr).toEndWith('Cannot take "nothing": nobody offered anything in time\n');
}, 60_000);

test("a context that the next broker refuses is given up, and its program runs on", async () => {
  await using broker = new TestBroker();
  const path = join(broker.directory, "context.sock");
  broker.connect().close();
  await using context = makeContext(broker, path);
  await waitUntil(() => context.stdout === "runs\n", "the program");
  writeFileSync(broker.configPath, '[[deny]]\nname = "none"\naction = "context"\n');
  await untilHeld(broker, 1);
  for (const holder of broker.holders()) kill(holder, constants.SIGKILL); // or the next one knows of it
  kill(broker.pid, constants.SIGKILL);
  await waitUntil(() => context.stderr.includes('(rule "none"'), "the refusal");
  await waitUntil(() => !existsSync(path), "the path to be gone");
  expect(context.closed).toBe(false);
  context.child.stdin?.end("\n");
  await waitUntil(() => context.closed, "the command to end");
  expect(context.child.exitCode).toBe(7);
  broker.connect().close(); // which is the test's to end
}, 60_000);

type AtStandIn = {
  readonly place: TestBroker;
  readonly listener: OwnedFd;
  readonly context: Staying;
  readonly broker: StandInBroker;
};

/** A context that is to be made by a broker of ours. @param answer  to that @param goOn  until the command ends
 *  @returns how it ended, what its program said, whether its path is there */
async function makeAtStandIn(
  answer: (scene: AtStandIn, id: ObjectId) => void,
  goOn: (scene: AtStandIn) => Promise<void>,
): Promise<readonly [number | null, string, boolean]> {
  await using place = new TestBroker();
  const path = join(place.directory, "context.sock");
  using listener = listenOn(place.socketPath);
  await using context = makeContext(place, path);
  using broker = await StandInBroker.at(listener, ({ request }) => {
    if (request.kind !== "create_context") return;
    for (const fd of [request.listenFd, request.closeFd]) fd.close();
    answer({ place, listener, context, broker }, request.id);
  });
  await goOn({ place, listener, context, broker });
  await waitUntil(() => context.closed, "the command to end");
  chmodSync(place.directory, 0o700); // in which a broker may be started
  return [context.child.exitCode, context.stdout, existsSync(path)];
}

test("a context whose broker ends before there is one ends by a signal, and runs no program", async () => {
  const end = makeAtStandIn(
    ({ place, listener, broker }) => {
      chmodSync(place.directory, 0o777); // nobody starts the next there
      for (const each of [listener, broker]) each[Symbol.dispose]();
    },
    async ({ place, context, broker }) => {
      await broker.serve();
      await waitUntil(
        () => context.closed || context.stderr === ENDED + tried(place),
        "the command to say that there is none",
      );
      context.child.kill("SIGTERM");
    },
  );
  expect(await end).toEqual([143, "", false]);
}, 60_000);

test("a context that is made when a signal to end has come runs no program", async () => {
  const end = makeAtStandIn(
    ({ context, broker }, id) => {
      context.child.kill("SIGINT");
      broker.send(id, "shmlink_context_v1", { kind: "registered", contextId: 1 });
    },
    async ({ context, broker }) => {
      const served = broker.serve();
      await waitUntil(() => context.closed || context.stdout !== "", "the command to end");
      context.child.stdin?.end("\n");
      await served;
    },
  );
  expect(await end).toEqual([130, "", false]);
}, 60_000);

test("a take --keep whose right is revoked waits for the programs that it has started", async () => {
  await using broker = new TestBroker();
  using link = broker.connect();
  using minted = link.mint([{ rights: ["take"], name: "job" }]);
  await using taker = Staying.on(minted.fd, broker, ...TAKE_JOBS);
  await giveJob(link, taker);
  await waitUntil(() => broker.log.split('Used grant take "job"').length > 2, "take to wait for the next one");
  minted.revoke();
  await waitUntil(() => taker.stderr.includes("the right was revoked"), "the end of the right");
  taker.child.kill("SIGTERM");
  await waitUntil(() => taker.stdout === "started\ntold\n", "the signal to be passed on");
  await waitUntil(() => taker.closed, "take to end");
  expect(taker.child.exitCode).toBe(1);
}, 60_000);
