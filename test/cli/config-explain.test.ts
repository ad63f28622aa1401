/** `shmlink config explain`, and reading the configuration again on SIGHUP. */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
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

test("explain says what is wrong with the question", async () => {
  await using broker = new TestBroker();
  for (const [words, message] of [
    [["--action=dail"], /Invalid --action "dail".*did you mean "dial"/],
    [["--action=dial", "--peer=uid"], /Invalid --peer field "uid": KEY=VALUE/],
    [["--action=dial", "--peer=uid=x"], /Invalid uid "x"/],
    [["--action=dial", "--service=no name"], /Cannot use name "no name"/],
    [["--action=dial", "--peer=user=nobody-like-this"], /does not exist/],
  ] as const) {
    const { code, stderr } = await broker.run(["config", "explain", ...words]);
    expect(stderr).toMatch(message);
    expect(code).toBe(2);
  }
});

test("SIGHUP puts new rules in force and drops nobody; a broken file keeps the old ones and says so", async () => {
  await using broker = new TestBroker();
  using link = broker.connect();
  using service = link.listen("kept");
  const hangUp = async (config: string, said: RegExp): Promise<void> => {
    writeFileSync(broker.env["SHMLINK_CONFIG"] ?? "", config);
    kill(broker.pid, constants.SIGHUP);
    await waitUntil(() => said.test(broker.log), String(said));
  };
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
    '[[deny]]\nname = "closed"\naction = "listen"\nservice = "secret"\n',
    /Configuration read again: 3 rules/,
  );
  expect(refusal()).toMatch(/rule "closed" at .*shmlink\.toml:1/);
  await hangUp("[[deny]\n", /Configuration is wrong, the old one stays in force: .*shmlink\.toml:1:/);
  expect(refusal()).toMatch(/rule "closed"/);
  expect(link.list().some(({ name }) => name === service.name)).toBe(true);
  expect(link.ended).toBe(false);
});
