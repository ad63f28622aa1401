/** `shmlink run` and `shmlink context create` with real programs, sandboxes among them. */
import { expect, test } from "bun:test";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { constants, kill, socketpair } from "../../ffi/mod.ts";
import type { BrokerLink } from "../../lib/client/broker-link.ts";
import { listenOn } from "../../lib/transport/listen.ts";
import { CHECKOUT, TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { Staying } from "../helpers/staying.ts";

expectNoFdLeaks();

const ENTRY = join(CHECKOUT, "bin", "shmlink.ts");
const SELF = [process.execPath, ENTRY];

type Ended = { readonly code: number | null; readonly stdout: string; readonly stderr: string };

function start(
  broker: TestBroker,
  words: readonly string[],
): { readonly child: ChildProcess; readonly ended: Promise<Ended> } {
  const [program = "", ...args] = words;
  const child = spawn(program, args, { env: broker.env, stdio: ["pipe", "pipe", "pipe"] });
  const text = ["", ""];
  for (const [index, stream] of [child.stdout, child.stderr].entries())
    stream?.on("data", (chunk: Buffer) => {
      text[index] += chunk.toString();
    });
  const ended = new Promise<Ended>((resolve) => {
    child.on("close", (code) => resolve({ code, stdout: text[0] ?? "", stderr: text[1] ?? "" }));
  });
  return { child, ended };
}

test("run starts what a shell would, and says what keeps it from the rest", async () => {
  await using broker = new TestBroker();
  const script = join(broker.directory, "script");
  writeFileSync(script, "exit 5\n", { mode: 0o755 });
  expect(await broker.run(["run", "--", script])).toEqual({ code: 5, stdout: "", stderr: "" });
  const strange = join(broker.directory, "strange");
  writeFileSync(strange, "#!/no/such/interpreter\n", { mode: 0o755 });
  expect(await broker.run(["run", "--", strange])).toEqual({
    code: 127,
    stdout: "",
    stderr: `shmlink: Cannot run "${strange}": the interpreter that its first line names is missing\n`,
  });
});

test("run gives a program exactly what is granted, on a descriptor and nowhere else", async () => {
  await using broker = new TestBroker();
  using link = broker.connect();
  link.listen("other");
  const listener = start(broker, [...SELF, "listen", "db"]);
  await waitUntil(() => link.list().some(({ name }) => name === "db"), "the service");
  const dial = start(broker, [...SELF, "run", "--grant=dial:db", "--", ...SELF, "dial", "db"]);
  dial.child.stdin?.end("hello through a grant");
  listener.child.stdin?.end();
  expect(await dial.ended).toMatchObject({ code: 0, stderr: "" });
  expect(await listener.ended).toMatchObject({ code: 0, stdout: "hello through a grant" });
  const refused = await broker.run(["run", "--grant=dial:db", "--", ...SELF, "dial", "other"]);
  expect(refused).toMatchObject({
    code: 1,
    stderr: 'shmlink: Cannot dial "other": it was not granted to this connection\n',
  });
  const nothing = await broker.run(["run", "--grant=listen:x", "--", ...SELF, "ls", "--json"]);
  expect(JSON.parse(nothing.stdout)).toMatchObject({ services: [], channels: [], relayed: [] });
  const view = await broker.run([
    "run",
    "--grant=dial:db",
    "--",
    "sh",
    "-c",
    "env | grep -E '^SHMLINK_(FD|SOCKET)='; readlink /proc/self/fd/3; exit 9",
  ]);
  expect(view.stdout).toMatch(/^SHMLINK_FD=3\nsocket:\[\d+\]\n$/);
  expect(view.code).toBe(9);
});

for (const [right, ...words] of [
  ["listen", "listen", "--keep", "a"],
  ["offer", "offer", "--keep", "--fd=0", "a"],
  ["offer", "offer", "--tcp=127.0.0.1:0", "a"],
  ["take", "take", "--keep", "a", "--", "true"],
] as const)
  test(`${words.join(" ")} ends when the right to the name is revoked`, async () => {
    await using broker = new TestBroker();
    using link = broker.connect();
    using minted = link.mint([{ rights: [right], name: "a" }]);
    await using command = Staying.on(minted.fd, broker, ...words);
    await waitUntil(() => broker.log.includes(`Used grant ${right} "a"`), "the command");
    minted.revoke();
    await waitUntil(() => command.closed, "the command to end");
    expect(command.child.exitCode).toBe(1);
    const wish = right === "listen" ? "listen as" : right;
    expect(command.stderr).toEndWith(`shmlink: Cannot ${wish} "a" any longer: the right was revoked\n`);
  }, 30_000);

const PEEKING = ["offer", "--tcp=127.0.0.1:0", "--peek=http", "web"] as const;
const PEEKING_REVOKED = 'shmlink: Cannot offer "web/*" any longer: the right was revoked\n';

test("offer --peek ends when the right to all of its names is revoked", async () => {
  await using broker = new TestBroker();
  using link = broker.connect();
  using minted = link.mint([{ rights: ["offer"], name: "web/*" }]);
  await using command = Staying.on(minted.fd, broker, ...PEEKING);
  await waitUntil(() => command.stderr.includes("offering"), "the command");
  minted.revoke();
  await waitUntil(() => command.closed, "the command to end");
  expect(command.child.exitCode).toBe(1);
  expect(command.stderr).toEndWith(PEEKING_REVOKED);
}, 30_000);

test("offer --peek stays while another grant covers a name that it has had", async () => {
  await using broker = new TestBroker();
  using link = broker.connect({ wake: true });
  using minted = link.mint([
    { rights: ["offer"], name: "web/*" },
    { rights: ["offer"], name: "web/one.test" },
  ]);
  await using command = Staying.on(minted.fd, broker, ...PEEKING);
  await waitUntil(() => /:\d+\n/.test(command.stderr), "the address");
  const port = Number(/:(\d+)\n/.exec(command.stderr)?.[1]);
  const ask = (host: string): Promise<unknown> =>
    fetch(`http://127.0.0.1:${port}`, { headers: { host } }).catch(() => undefined);
  const taken = link.takeAsync("web/one.test", { waitMs: -1 });
  const asked = ask("one.test");
  (await taken)[Symbol.dispose]();
  await asked;
  minted.revoke(["offer"], "web/*");
  await ask("two.test");
  await waitUntil(() => command.stderr.includes('Cannot offer "web/two.test"'), "a name that is not granted any more");
  expect(command.closed).toBe(false);
  minted.revoke();
  await waitUntil(() => command.closed, "the command to end");
  expect(command.stderr).toEndWith(PEEKING_REVOKED);
}, 30_000);

test("a program that take starts does not take what is on descriptor 3 for its connection to the broker", async () => {
  await using broker = new TestBroker();
  using link = broker.connect();
  using offer = link.offer("x");
  const [near, far] = socketpair(constants.SOCK_STREAM);
  offer.publish([far]);
  const inner = [...SELF, "ls"];
  const { stderr, code } = await broker.run(["run", "--grant=take:x", "--", ...SELF, "take", "x", "--", ...inner]);
  expect([code, stderr]).toEqual([
    1,
    'shmlink: Cannot use SHMLINK_FD "used": the connection that was handed down is used already\n',
  ]);
  for (const fd of [near, far]) fd.close();
});

test("whoever comes second to a connection that was handed down is told that it is used", async () => {
  await using broker = new TestBroker();
  const twice = [0, 1].map(() => [...SELF, "ls"].join(" ")).join(" && ");
  const { stderr, code } = await broker.run(["run", "--grant=dial:x", "--", "sh", "-c", twice]);
  expect([code, stderr]).toEqual([
    1,
    "shmlink: Cannot use SHMLINK_FD: another program has used it before, which may be done once, or no broker is at its other end\n",
  ]);
});

const LISTENING = [...SELF, "listen", "--keep", "a"].join(" ");
const LISTENING_REVOKED = 'shmlink: Cannot listen as "a" any longer: the right was revoked\n';
const isListed = (link: BrokerLink): boolean => link.list("a").length > 0;

test("run takes away what it has granted when it gets SIGUSR1, and the audit says so", async () => {
  await using broker = new TestBroker();
  using link = broker.connect();
  const program = `${LISTENING}; echo "ended with $?"; exit 5`;
  await using run = new Staying(broker, "run", "--grant=listen:a", "--", "sh", "-c", program);
  await waitUntil(() => isListed(link), "the program");
  run.child.kill("SIGUSR1");
  await waitUntil(() => run.closed, "the program to end");
  expect([run.child.exitCode, run.stdout, run.stderr]).toEqual([5, "ended with 1\n", LISTENING_REVOKED]);
  expect(broker.log).toMatch(/Revoked listen,send,receive:a /);
}, 30_000);

test("run says that a broker that is stopped does not answer, and stays with its program", async () => {
  await using broker = new TestBroker();
  broker.connect().close();
  const words = ["run", "--grant=listen:a", "--", "sh", "-c", "echo runs; read line; exit 9"];
  await using run = new Staying(broker, ...words);
  await waitUntil(() => run.stdout === "runs\n", "the program");
  kill(broker.pid, constants.SIGSTOP);
  try {
    run.child.kill("SIGUSR1");
    await waitUntil(() => run.stderr.endsWith("the broker is silent\n"), "what comes of it");
  } finally {
    kill(broker.pid, constants.SIGCONT);
  }
  await waitUntil(() => broker.log.includes("Revoked listen"), "the broker to hear of it all the same");
  run.child.stdin?.end("\n");
  await waitUntil(() => run.closed, "run to end");
  expect(run.child.exitCode).toBe(9);
}, 60_000);

test("run that is told to end takes the rights from what its program has left running", async () => {
  await using broker = new TestBroker();
  using link = broker.connect();
  const program = `trap "exit 7" TERM; ${LISTENING} & while :; do wait; done`;
  await using run = new Staying(broker, "run", "--grant=listen:a", "--", "sh", "-c", program);
  await waitUntil(() => isListed(link), "the program");
  run.child.kill("SIGTERM");
  await waitUntil(() => run.closed, "all of it to end");
  expect([run.child.exitCode, run.stderr]).toEqual([7, LISTENING_REVOKED]);
}, 30_000);

test("what a program leaves running when it ends by itself keeps what run has granted", async () => {
  await using broker = new TestBroker();
  using link = broker.connect();
  const program = `${LISTENING} & echo $!; read line; exit 7`;
  await using run = new Staying(broker, "run", "--grant=listen:a", "--", "sh", "-c", program);
  await waitUntil(() => isListed(link) && run.stdout.endsWith("\n"), "the program");
  run.child.stdin?.end("\n");
  await waitUntil(() => run.child.exitCode !== null, "run to end");
  expect([run.child.exitCode, isListed(link)]).toEqual([7, true]);
  process.kill(Number(run.stdout), "SIGTERM");
  await waitUntil(() => run.closed && !isListed(link), "what was left to end");
}, 30_000);

test("run within run passes on less, never more, and repeats of --grant add up", async () => {
  await using broker = new TestBroker();
  broker.connect().close();
  const outer = ["run", "--grant=listen,delegate:web/*", "--grant=dial,delegate:db", "--", ...SELF];
  const more = await broker.run([...outer, "run", "--grant=listen:*", "--", "true"]);
  expect(more).toMatchObject({ code: 1, stderr: expect.stringContaining("rights that this one cannot pass on") });
  const less = await broker.run([
    ...outer,
    "run",
    "--grant=listen:web/a",
    "--grant=dial:db",
    "--",
    ...SELF,
    "dial",
    "--wait=0",
    "db",
  ]);
  expect(less.stderr).toContain('Cannot dial "db": nobody offers this name');
  for (const [words, message] of [
    [["run"], /Missing program/],
    [["run", "--grant=dial", "--", "true"], /RIGHTS:NAME is wanted/],
    [["run", "--grant=dail:x", "--", "true"], /Invalid right "dail".*did you mean "dial"/],
    [["run", "--grant=dial:a?b!", "--", "true"], /Invalid --grant "dial:a\?b!"/],
    [["run", ...Array.from({ length: 65 }, () => "-g=dial:x"), "--", "true"], /Cannot use 65 grants: 64 is the most/],
  ] as const) {
    const { code, stderr } = await broker.run(words);
    expect(stderr).toMatch(message);
    expect(code).toBe(2);
  }
});

const SHOP = (instance: string): string[] => [
  "context",
  "create",
  "--engine=test",
  "--app=shop",
  `--instance=${instance}`,
];

const RULES = `[[allow]]
name = "shops"
engine = "test"
app = "shop"
action = ["connect", "dial", "listen", "list", "offer", "take", "context"]

[[deny]]
name = "second-shop"
engine = "test"
instance = "2"
action = "dial"
`;

test("a context has an identity that rules speak of, no nesting, and goes with its program", async () => {
  await using broker = new TestBroker(RULES);
  using link = broker.connect();
  link.listen("db");
  const path = join(broker.directory, "shop.sock");
  const inside = (instance: string, ...words: string[]): Promise<Ended> =>
    broker.run([...SHOP(instance), `--path=${path}`, "--", "env", `SHMLINK_SOCKET=${path}`, ...words]);
  const listed = await inside("1", ...SELF, "ls", "--json");
  expect(listed).toMatchObject({ code: 0, stderr: `shmlink: context test/shop/1 at ${path}\n` });
  expect(JSON.parse(listed.stdout).contexts).toMatchObject([
    { name: "test/shop/1", engine: "test", app: "shop", instance: "1", accepted: 1 },
  ]);
  expect(existsSync(path)).toBe(false);
  await waitUntil(() => link.list().every(({ kind }) => kind !== "context"), "the context to be gone");
  const refused = await inside("2", ...SELF, "dial", "--wait=0", "db");
  expect(refused.stderr).toMatch(
    /Cannot dial "db": context test\/shop\/2 \(user \d+\) may not dial it \(rule "second-shop" at .*:7\)/,
  );
  const nested = await inside("1", ...SELF, ...SHOP("9"), `--path=${path}.nested`, "--", "true");
  expect(nested.stderr).toContain(
    'Cannot create context "test/shop/9" from within a context: there is no nesting, make it outside',
  );
  expect(nested.code).toBe(1);
});

test("without a rule that names it, a context is let in nowhere, though it is the same user", async () => {
  await using broker = new TestBroker();
  broker.connect().close();
  const path = join(broker.directory, "c.sock");
  const { code, stderr } = await broker.run([
    ...SHOP("1"),
    `--path=${path}`,
    "--",
    "env",
    `SHMLINK_SOCKET=${path}`,
    ...SELF,
    "ls",
  ]);
  expect(stderr).toMatch(
    /no rule allows context test\/shop\/1 \(user \d+\) to connect .*; add an \[\[allow\]\] that names its engine, app or instance/,
  );
  expect(code).toBe(1);
});

test("with --close-fd the context outlives the command, and ends when the other end hangs up", async () => {
  await using broker = new TestBroker(RULES);
  using link = broker.connect();
  const path = join(broker.directory, "held.sock");
  const script = `mkfifo "$1/hold"; exec 5<>"$1/hold" 7<"$1/hold"; shift; "$@" --close-fd=7 5>&- || exit 3; echo made; exec 7<&-; read line`;
  const holder = start(broker, [
    "sh",
    "-c",
    script,
    "sh",
    broker.directory,
    ...SELF,
    ...SHOP("1"),
    `--path=${path}`,
    "--mode=666",
  ]);
  const contexts = (): string[] => link.list().flatMap(({ kind, name }) => (kind === "context" ? name : []));
  await waitUntil(() => contexts().length === 1, "the context");
  expect(statSync(path).mode & 0o777).toBe(0o666);
  holder.child.stdin?.end("\n");
  expect(await holder.ended).toMatchObject({ code: 0, stdout: "made\n" });
  await waitUntil(() => contexts().length === 0, "the context to end with its holder");
});

test("a context that the policy forbids is refused with a sentence", async () => {
  await using broker = new TestBroker('[[deny]]\nname = "none"\naction = "context"\n');
  const path = join(broker.directory, "refused.sock");
  const { code, stderr } = await broker.run([...SHOP("1"), `--path=${path}`, "--", "true"]);
  expect(stderr).toMatch(
    /^shmlink: Cannot create context "test\/shop\/1": user \d+ may not create it \(rule "none" at .*\)\n$/,
  );
  expect(code).toBe(1);
});

test("--close-fd takes only what tells when its other end is closed, and makes no socket otherwise", async () => {
  await using broker = new TestBroker(RULES);
  const path = join(broker.directory, "refused.sock");
  const command = [...SELF, ...SHOP("1"), `--path=${path}`, "--close-fd=7"];
  const result = await start(broker, ["sh", "-c", 'exec "$@" 7</etc/passwd', "sh", ...command]).ended;
  expect(result).toEqual({
    code: 2,
    stdout: "",
    stderr: expect.stringContaining(
      'Cannot use --close-fd "7": a pipe or a socket is wanted, whose other end hangs up',
    ),
  });
  expect(existsSync(path)).toBe(false);
});

test("context create says what is wrong with its words, and takes the place of one that was killed", async () => {
  await using broker = new TestBroker();
  const path = join(broker.directory, "context.sock");
  for (const [words, message] of [
    [["--engine=a b", "--app=shop", "--instance=1", `--path=${path}`], /Cannot use --engine "a b": 1 to 64 of/],
    [["--app=shop", "--instance=1", `--path=${path}`], /Missing --engine/],
    [SHOP("1").slice(2), /Missing --path/],
    [[...SHOP("1").slice(2), `--path=${path}`, "--mode=9"], /Cannot use --mode "9": three octal digits/],
    [[...SHOP("1").slice(2), `--path=${path}`, "--close-fd=x"], /Cannot use --close-fd "x": the number of/],
    [[...SHOP("1").slice(2), `--path=${path}`, "--close-fd=77"], /Cannot use --close-fd "77": it is not open/],
    [[...SHOP("1").slice(2), `--path=${path}`, "--json"], /Unknown option: "--json"/],
    [[...SHOP("1").slice(2), `--path=${path}${"x".repeat(120)}`], /bytes long, 107 is the most; give a shorter one/],
    [[...SHOP("1").slice(2), "--path=@shop"], /Cannot use --path "@shop": an abstract socket has no file to mount/],
  ] as const) {
    const { code, stderr } = await broker.run(["context", "create", ...words]);
    expect(stderr).toMatch(message);
    expect(stderr).not.toContain("Internal error");
    expect(code).toBe(2);
  }
  expect(existsSync(path)).toBe(false);
  {
    using left = listenOn(path);
    expect(left.closed).toBe(false);
    const { stderr } = await broker.run([...SHOP("1"), `--path=${path}`, "--", "true"]);
    expect(stderr).toMatch(/another process's socket is there \(EADDRINUSE\); end that process, or give another path/);
  }
  expect(existsSync(path)).toBe(true);
  expect(await broker.run([...SHOP("1"), `--path=${path}`, "--", "true"])).toMatchObject({ code: 0 });
  expect(existsSync(path)).toBe(false);
});

const BWRAP = [
  requires.program("bwrap", "bubblewrap"),
  requires.feature(canSandbox(), "this user may not make the namespaces"),
];

function canSandbox(): boolean {
  try {
    execFileSync("bwrap", ["--ro-bind", "/", "/", "--unshare-net", "--unshare-pid", "--proc", "/proc", "true"], {
      stdio: "ignore",
    });
    return true;
  } catch {
    return false;
  }
}

/** A sandbox that has the programs, its own network and processes, and nothing of /tmp but its socket. */
function sandbox(socket: string, ...words: string[]): string[] {
  const programs = [CHECKOUT, dirname(process.execPath)].flatMap((path) => ["--ro-bind", path, path]);
  const world = [
    "--ro-bind",
    "/usr",
    "/usr",
    "--symlink",
    "usr/lib",
    "/lib",
    "--symlink",
    "usr/lib64",
    "/lib64",
    "--symlink",
    "usr/bin",
    "/bin",
  ];
  const own = [
    "--tmpfs",
    "/tmp",
    "--dev",
    "/dev",
    "--proc",
    "/proc",
    "--unshare-net",
    "--unshare-pid",
    "--bind",
    socket,
    "/shmlink.sock",
  ];
  return [
    "bwrap",
    ...world,
    ...own,
    ...programs,
    "--setenv",
    "SHMLINK_SOCKET",
    "/shmlink.sock",
    "--unsetenv",
    "SHMLINK_CONFIG",
    ...words,
  ];
}

requires.test(
  BWRAP,
  "two sandboxes without a network in common exchange a channel through the host's broker, a third is refused",
  async () => {
    await using broker = new TestBroker(RULES);
    using link = broker.connect();
    const shop = (instance: string, ...words: string[]): ReturnType<typeof start> => {
      const path = join(broker.directory, `shop-${instance}.sock`);
      return start(broker, [...SELF, ...SHOP(instance), `--path=${path}`, "--", ...sandbox(path, ...SELF, ...words)]);
    };
    const listener = shop("1", "listen", "counter");
    listener.child.stdin?.end("change");
    await waitUntil(() => link.list().some(({ name }) => name === "counter"), "the service of the first sandbox");
    const refused = await shop("2", "dial", "counter").ended;
    expect(refused.stderr).toMatch(/context test\/shop\/2 .* may not dial it \(rule "second-shop"/);
    const dialler = shop("3", "dial", "counter");
    dialler.child.stdin?.end("coins");
    expect(await dialler.ended).toMatchObject({ code: 0, stdout: "change" });
    expect(await listener.ended).toMatchObject({ code: 0, stdout: "coins" });
  },
);
