/** A bundle that is handed over in the very moment in which its taker is to end: by its time alone it is the taker's, and not lost. */
import { expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { constants, memfdCreate, type OwnedFd, open } from "../../ffi/mod.ts";
import type { AnyRequest } from "../../lib/protocol/connection.ts";
import { listenOn } from "../../lib/transport/socket-path.ts";
import { CHECKOUT, TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { quiet } from "../helpers/process-state.ts";
import { makeRuntimeDir } from "../helpers/runtime-dir.ts";
import { BUN } from "../helpers/runtimes.ts";
import { StandInBroker } from "../helpers/stand-in-broker.ts";
import { Staying } from "../helpers/staying.ts";

expectNoFdLeaks();

const library = (take: string): string[] => [
  BUN.binary,
  "-e",
  `import { connect } from "${CHECKOUT}/lib/mod.ts";
   using link = connect({ name: "taker", start: false, wake: true });
   try {
     using delivery = ${take}("gift", { waitMs: 1 });
     console.log(delivery.items.map(({ type }) => type).join(), delivery.pid);
   } catch (error) {
     console.log(error.code);
   }`,
];
const SHELL = ["sh", "-c", 'test -e /dev/fd/3 && echo "other $LISTEN_FDS"'];
const command = BUN.command("bin/shmlink.ts", "take", "gift", "--wait=0.001", "--", ...SHELL);

type Deed = "deliver" | "hang up" | "delete" | "fall silent";

/** It has nothing for who takes, until it hears that he does not wait any more. */
function answerLate(broker: StandInBroker, { object, ...message }: AnyRequest<OwnedFd>, deed: Deed): void {
  if (message.interface !== "shmlink_delivery_v1") return;
  if (deed === "hang up") broker[Symbol.dispose]();
  if (deed === "fall silent") broker.isSilent = true;
  if (deed !== "deliver") return;
  const fd = open("/dev/null", constants.O_RDONLY);
  broker.send(object, "shmlink_delivery_v1", { kind: "fd", fd, type: "other" });
  broker.send(object, "shmlink_delivery_v1", { kind: "done", count: 1, pid: 77, uid: 0 });
}

/** What is printed by who takes from a broker that does that, and is told to end when it says nothing any more. */
async function takeLate(words: readonly string[], deed: Deed): Promise<string> {
  using runtime = makeRuntimeDir();
  const path = `${runtime.path}/broker.sock`;
  using listener = listenOn(path);
  const [program = "", ...args] = words;
  const env = { ...process.env, SHMLINK_SOCKET: path };
  const child = spawn(program, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  const output = Promise.all([text(child.stdout), text(child.stderr), once(child, "close")] as const);
  using broker = await StandInBroker.at(listener, (message) => answerLate(broker, message, deed));
  await broker.serve();
  if (broker.isSilent) child.kill("SIGTERM");
  const [stdout, stderr, [code]] = await output;
  return broker.isSilent ? `${stdout}${stderr}${code}` : stdout + stderr;
}

for (const [name, words, got] of [
  ["take()", library("link.take"), "other 77\n"],
  ["takeAsync()", library("await link.takeAsync"), "other 77\n"],
  ["shmlink take", command, "other 1\n"],
] as const) {
  test(`${name} has what the broker handed over before it heard that the time is over`, async () => {
    expect(await takeLate(words, "deliver")).toBe(got);
  });

  test(`${name} ends with its time when the broker has handed over nothing`, async () => {
    for (const deed of ["delete", "hang up"] as const)
      expect(await takeLate(words, deed)).toMatch(/^timeout\n$|: nobody offered anything in time\n$/);
  });
}

test("shmlink take ends by a signal that comes while it waits for a broker that says nothing any more", async () => {
  expect(await takeLate(command, "fall silent")).toBe("143");
});

for (const words of [["--wait=600"], ["--keep"]]) {
  test(`shmlink take ${words} starts no program when a signal to end has come with the bundle`, async () => {
    await using broker = new TestBroker();
    using link = broker.connect();
    await using taker = new Staying(broker, "take", "gift", ...words, "--", "sh", "-c", "echo started; read line");
    const isIn = (): boolean => link.list().find(({ kind }) => kind === "broker")?.details["sessions"] === 2;
    await waitUntil(() => taker.closed || isIn(), "take to be connected");
    await quiet(taker.child.pid ?? 0); // it waits
    taker.child.kill("SIGSTOP");
    using offer = link.offer("gift");
    using file = memfdCreate("gift");
    offer.publish([file]);
    link.sync();
    for (const signal of ["SIGTERM", "SIGCONT"] as const) taker.child.kill(signal);
    await waitUntil(() => taker.closed || taker.stdout !== "", "take to end");
    expect([taker.stdout, taker.child.exitCode]).toEqual(["", 143]);
  });
}
