/** `shmlink config explain`, and reading the configuration again on SIGHUP. */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { constants, kill } from "../../ffi/mod.ts";
import { FailureError } from "../../lib/errors.ts";
import { TestBroker, waitUntil } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";

expectNoFdLeaks();

const RULES =
  '[[deny]]\nname = "no-db"\nuser = "daemon"\naction = "dial"\nservice = "db.*"\n\n[[allow]]\nuid = "any"\naction = "dial"\n';

test("explain names the rule with file and line, says why others do not fit, and exits by the decision", async () => {
  await using broker = new TestBroker(RULES);
  const ask = (peer: string, ...more: string[]) =>
    broker.run(["config", "explain", `--peer=${peer}`, "--action=dial", "--service=db.main", ...more]);
  const refused = await ask("user=daemon");
  expect(refused.code).toBe(1);
  expect(refused.stdout).toMatch(/^refused: user 1 may not dial it \(rule "no-db", .*shmlink\.toml:1\)\n/);
  expect(refused.stdout).toMatch(/allow "allow#1" \(.*shmlink\.toml:7\): fits/);
  expect(refused.stdout).toMatch(/allow "owner" \(built in\): does not fit: uid/);
  const allowed = await ask(`pid=${process.pid}`, "--json");
  expect(allowed.code).toBe(0);
  expect(JSON.parse(allowed.stdout)).toMatchObject({
    decision: { kind: "allow", rule: "allow#1" },
    peer: { uid: process.geteuid?.() },
    considered: [{ rule: "no-db", mismatch: "uid" }, { rule: "allow#1", mismatch: null }, {}, {}],
  });
});

const GROUP_RULES =
  '[[deny]]\nname = "no-daemons"\ngid = 1\naction = "list"\n\n[[allow]]\nname = "group-0"\ngid = 0\naction = ["dial", "list"]\n\n' +
  '[[allow]]\nname = "remote"\ngid = 70003\naction = "dial"\n\n[[allow]]\nname = "all"\nuid = "any"\naction = "list"\n';

test("explain knows the groups of a user, takes others, and says when it knows none", async () => {
  await using broker = new TestBroker(GROUP_RULES);
  for (const [peer, action, said] of [
    ["user=daemon", "dial", /^refused: no rule allows user 1 to dial .*\n(.*\n)*.*"group-0" .*: does not fit: gid\n/],
    ["uid=1", "dial", /^refused/],
    ["user=daemon,groups=5:0", "dial", /^allowed \(rule "group-0"/],
    ["uid=1,gid=0", "dial", /^allowed \(rule "group-0"/],
    ["user=root", "dial", /^allowed/],
    ["uid=0,user=root,unit=a.service,cgroup=/system.slice/a.service", "dial", /^allowed/],
    ["user=daemon", "list", /^refused: .*\(rule "no-daemons"/],
    ["uid=1,gid=5", "list", /^allowed \(rule "all"/],
    [
      "uid=4294967000",
      "dial",
      /^refused.*\n(.*\n)*.*"group-0" .*: gid, user 4294967000 is not known here \(--peer takes gid=N/,
    ],
    ["uid=4294967000,gid=0", "dial", /^allowed \(rule "group-0"/],
  ] as const) {
    const { stdout, stderr } = await broker.run(["config", "explain", `--peer=${peer}`, `--action=${action}`]);
    expect([peer, stderr]).toEqual([peer, ""]);
    expect(stdout).toMatch(said);
  }
});

test("explain says what is missing for who asks from within a context", async () => {
  await using broker = new TestBroker();
  const { stdout } = await broker.run(["config", "explain", "--peer=engine=podman,app=shop", "--action=context"]);
  expect(stdout).toMatch(/^refused: no rule allows context podman\/shop\/ \(user \d+\) to create a context/);
  expect(stdout).toMatch(
    /allow "owner" .*: context, it names no engine, app or instance, and who asks is in a context\n/,
  );
});

test("explain asks getent(1) for users and groups that are in no file", async () => {
  await using broker = new TestBroker(GROUP_RULES);
  const entry = "remote:x:70001:70002::/:/bin/sh";
  const getent = `#!/bin/sh\ncase "$*" in\n"passwd 70001" | "passwd remote") echo ${entry};;\n"initgroups remote") echo "remote  70003 70004";;\nesac\n`;
  writeFileSync(join(broker.directory, "getent"), getent, { mode: 0o755 });
  broker.env["PATH"] = broker.directory;
  for (const peer of ["uid=70001", "user=remote"]) {
    const { stdout } = await broker.run(["config", "explain", `--peer=${peer}`, "--action=dial", "--json"]);
    expect(JSON.parse(stdout)).toMatchObject({
      decision: { kind: "allow", rule: "remote" },
      peer: { uid: 70001, gid: 70002, groups: [70003, 70004] },
    });
  }
});

test("explain is asked about descriptors with what they are, one after another", async () => {
  await using broker = new TestBroker(
    '[[allow]]\nname = "owner-fds"\nuid = "owner"\naction = "offer"\nfd = ["memfd", "tcp"]\naccess = ["read", "read-write"]\n\n' +
      '[[deny]]\nname = "not-sealed"\nfd = "memfd"\nminSizeBytes = 4097\n\n[[deny]]\nname = "ipv6"\nfamily = "inet6"\n',
  );
  const ask = async (fd: string): Promise<string> => {
    const { code, stdout, stderr } = await broker.run([
      "config",
      "explain",
      "--action=offer",
      "--service=x",
      `--fd=${fd}`,
    ]);
    expect([code, stderr]).toEqual([stdout.startsWith("allowed") ? 0 : 1, ""]);
    return stdout;
  };
  expect(await ask("memfd,seals=write+shrink,access=read,size=4096,tcp,family=inet,access=read")).toStartWith(
    "allowed",
  );
  expect(await ask("memfd,size=5000,access=read")).toMatch(/rule "not-sealed", .*shmlink\.toml:8/);
  expect(await ask("memfd,access=read,tcp,family=inet6,access=read")).toMatch(/rule "ipv6", .*shmlink\.toml:13/);
  expect(await ask("memfd,access=write")).toMatch(/allow "owner-fds" .*: does not fit: access/);
});

test("explain is asked about listeners by the name that they are listed with", async () => {
  await using broker = new TestBroker('[[deny]]\nname = "no-eight"\naction = "register"\nservice = "tcp:[::1]:8*"\n');
  for (const [service, isAllowed] of [
    ["tcp:[::1]:8000", false],
    ["tcp:[0:0:0:0:0:0:0:1]:8000", false],
    ["tcp:[::1]:9000", true],
    ["tcp:127.0.0.1:8000", true],
  ] as const) {
    const { code, stdout } = await broker.run(["config", "explain", "--action=register", `--service=${service}`]);
    expect([service, stdout.split(" ")[0], code]).toEqual([
      service,
      isAllowed ? "allowed" : "refused:",
      isAllowed ? 0 : 1,
    ]);
  }
});

test("explain says what is wrong with the question", async () => {
  await using broker = new TestBroker();
  for (const [words, message] of [
    [["--action=dail"], /Invalid --action "dail".*did you mean "dial"/],
    [["--action=take", "--fd=memfd,pip"], /Invalid --fd type "pip".*did you mean "pipe"/],
    [["--action=dial", "--peer=uid"], /Invalid --peer field "uid": KEY=VALUE/],
    [["--action=dial", "--peer=uid=x"], /Invalid uid "x"/],
    [["--action=dial", "--peer=groups=4,x"], /Invalid --peer field "x"/],
    [["--action=dial", "--peer=groups=4:"], /Invalid groups ""/],
    [["--action=dial", "--service=no name"], /Cannot use name "no name"/],
    [["--action=register", "--service=tcp:::1:80"], /Cannot use name "tcp:::1:80": tcp:ADDRESS:PORT is wanted/],
    [["--action=list", "--service=db"], /Cannot use --service "db": the action list has none/],
    [["--action=connect", "--service=db"], /Cannot use --service "db": the action connect has none/],
    [["--action=delegate", "--service=db"], /Cannot use --service "db": the action delegate has none/],
    [["--action=dial", "--fd=memfd"], /Cannot use --fd "memfd": the action dial has none/],
    [["--action=take", "--fd=mmfd"], /Invalid --fd type "mmfd".*did you mean "memfd"/],
    [["--action=take", "--fd=memfd,seal=write"], /Invalid --fd key "seal".*did you mean "seals"/],
    [["--action=take", "--fd=memfd,seals=write+grwo"], /Invalid --fd seals "grwo".*did you mean "grow"/],
    [["--action=take", "--fd=size=1,memfd"], /"size=1" stands before the type it is about/],
    [["--action=take", "--fd=memfd,size=4K"], /Cannot use --fd size "4K": a whole number/],
    [["--action=dial", "--peer=user=nobody-like-this"], /does not exist/],
    [["--action=dial", "--peer=uid=1,user=root"], /Invalid --peer .*: user "root" has uid 0, not 1; leave one/],
    [["--action=dial", "--peer=uid=x,user=root"], /Invalid uid "x"/],
    [["--action=dial", "--peer=uid=1,uid=2"], /Invalid --peer "uid=1,uid=2": uid is given twice/],
    [["--action=dial", "--peer=unit=a.service,cgroup=/b.service"], /"\/b.service" is not one of unit "a.service"/],
  ] as const) {
    const { code, stderr } = await broker.run(["config", "explain", ...words]);
    expect(stderr).toMatch(message);
    expect(code).toBe(2);
  }
}, 60_000);

/** Has the broker read `config`, until its log says that. */
async function hangUp(broker: TestBroker, config: string, said: RegExp): Promise<void> {
  writeFileSync(broker.configPath, config);
  kill(broker.pid, constants.SIGHUP);
  await waitUntil(() => said.test(broker.log), String(said));
}

test("SIGHUP puts new rules in force and drops nobody; a broken file keeps the old ones and says so", async () => {
  await using broker = new TestBroker();
  using link = broker.connect();
  using service = link.listen("kept");
  const refusal = (): string | undefined => {
    try {
      link.listen("secret").close();
    } catch (error) {
      if (error instanceof FailureError) return error.message;
      throw error;
    }
    return undefined;
  };
  expect(refusal()).toBeUndefined();
  await hangUp(
    broker,
    '[[deny]]\nname = "closed"\naction = "listen"\nservice = "secret"\n',
    /Configuration read again: 3 rules/,
  );
  expect(refusal()).toMatch(/rule "closed" at .*shmlink\.toml:1/);
  await hangUp(broker, "[[deny]\n", /Configuration is wrong, the old one stays in force: .*shmlink\.toml:1:/);
  expect(refusal()).toMatch(/rule "closed"/);
  expect(link.list().some(({ name }) => name === service.name)).toBe(true);
  expect(link.ended).toBe(false);
});

test("SIGHUP puts new limits in force: how much one may have, and how many requests a second are read", async () => {
  await using broker = new TestBroker();
  using link = broker.connect();
  using _one = link.listen("one");
  using _two = link.listen("two");
  await hangUp(broker, "[limits]\nmaxServicesPerUser = 2\nmaxMessagesPerSecond = 100\n", /Configuration read again/);
  expect(() => link.listen("three")).toThrow(/limits\.maxServicesPerUser is 2/);
  const startedAt = performance.now();
  for (let count = 0; count < 40; count++) link.list("nothing"); // each a request and a sync at least
  expect(performance.now() - startedAt).toBeGreaterThan(250); // 10 at once, then one in 10 ms
});
