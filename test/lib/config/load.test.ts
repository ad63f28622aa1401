import { afterAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { checkConfig, loadConfig } from "../../../lib/config/load.ts";
import { builtInConfig, SCHEMA, type ShmlinkConfig } from "../../../lib/config/schema.ts";
import { ConfigError } from "../../../lib/errors.ts";

const root = mkdtempSync(join(tmpdir(), "shmlink-config-"));
afterAll(() => rmSync(root, { recursive: true }));
let nFiles = 0;

function write(files: Readonly<Record<string, string | Uint8Array>>): string {
  nFiles += 1;
  const directory = join(root, String(nFiles));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    writeFileSync(join(directory, name), text);
  }
  return directory;
}

/** The messages for a document, the file's name taken off. */
function problems(text: string): string[] {
  const path = join(write({ "shmlink.toml": text }), "shmlink.toml");
  return checkConfig({ env: {}, path }).problems.map(({ message }) => message.replace(`${path}:`, ""));
}

const REPOSITORY = join(import.meta.dir, "../../..");

test("the file that is delivered says exactly what is built in, key by key", () => {
  const path = join(REPOSITORY, "config/shmlink.toml");
  const { config, sources } = loadConfig({ env: {}, path });
  const rules = config.rules.map((rule) => ({ ...rule, where: "built in" }));
  expect<ShmlinkConfig>({ ...config, rules }).toEqual(builtInConfig);
  expect(config.rules.map(({ where }) => where.replace(REPOSITORY, ""))).toEqual([
    "/config/policy.d/00-default.toml:5",
    "/config/policy.d/00-default.toml:12",
  ]);
  expect(sources).toEqual([path, join(REPOSITORY, "config/policy.d/00-default.toml")]);
  const document = Bun.TOML.parse(readFileSync(path, "utf8")) as Record<string, object>;
  for (const [section, fields] of Object.entries(SCHEMA)) {
    expect(Object.keys(document[section] ?? {}).sort()).toEqual(Object.keys(fields).sort());
  }
});

test("without a file everything is built in", () => {
  const empty = write({ "other.txt": "" });
  expect(loadConfig({ env: { XDG_CONFIG_HOME: empty } }).config).toEqual(builtInConfig);
});

test("SHMLINK_CONFIG comes before XDG_CONFIG_HOME, which comes before ~/.config", () => {
  const text = (idleMs: number): string => `[broker]\nidleMs = ${idleMs}\n`;
  const home = write({
    "named.toml": text(1),
    "xdg/shmlink/shmlink.toml": text(2),
    ".config/shmlink/shmlink.toml": text(3),
  });
  const env = { SHMLINK_CONFIG: join(home, "named.toml"), XDG_CONFIG_HOME: join(home, "xdg"), HOME: home };
  const idle = (variables: Record<string, string>): number => loadConfig({ env: variables }).config.broker.idleMs;
  expect(idle(env)).toBe(1);
  expect(idle({ XDG_CONFIG_HOME: env.XDG_CONFIG_HOME, HOME: home })).toBe(2);
  expect(idle({ XDG_CONFIG_HOME: "relative", HOME: home })).toBe(3);
  expect(idle({ SHMLINK_CONFIG: "", HOME: home })).toBe(3);
});

test("a named file that is not there is an error, one that cannot be read too", () => {
  expect(() => loadConfig({ env: { SHMLINK_CONFIG: join(root, "none.toml") } })).toThrow(
    /none\.toml": there is no such file; name another one \(SHMLINK_CONFIG\)/,
  );
  expect(() => loadConfig({ env: { SHMLINK_CONFIG: root } })).toThrow(
    `Cannot read configuration "${root}": it is a directory, a file is wanted`,
  );
});

test("what has no end is not read to it", () => {
  const directory = write({ "long.toml": `# ${"x".repeat(1 << 20)}` });
  const fifo = join(directory, "fifo");
  Bun.spawnSync(["mkfifo", fifo]);
  const load = (path: string) => () => loadConfig({ env: {}, path });
  expect(load("/dev/full")).toThrow('Cannot read configuration "/dev/full": it is a device, a file is wanted');
  expect(load(fifo)).toThrow("it is a FIFO, a file is wanted");
  expect(load(join(directory, "long.toml"))).toThrow("it is longer than 1048576 bytes, the most that is read");
  expect(loadConfig({ env: {}, path: "/dev/null" }).config).toEqual(builtInConfig);
});

test("bytes that are no UTF-8 are refused with file and line: a rule with other letters would fit nobody", () => {
  const bytes = Buffer.concat([
    Buffer.from('# é\n[[deny]]\nexe = "/usr/bin/'),
    Buffer.from([0xff]),
    Buffer.from('"\n'),
  ]);
  const main = write({ "shmlink.toml": bytes });
  const load = (directory: string) => () => loadConfig({ env: {}, path: join(directory, "shmlink.toml") });
  expect(load(main)).toThrow(`Cannot read configuration "${main}/shmlink.toml": its line 3 is no valid UTF-8`);
  const beside = write({ "shmlink.toml": "", "policy.d/a.toml": bytes.subarray(0, -2) });
  expect(load(beside)).toThrow(`Cannot read configuration "${beside}/policy.d/a.toml": its line 3 is no valid UTF-8`);
});

test("a link to nothing is an error, in place of a file, in policy.d and in place of it", () => {
  const linked = (name: string): string => {
    const directory = write({ "other/x.txt": "", ...(name === "shmlink.toml" ? {} : { "shmlink.toml": "" }) });
    if (name === "policy.d/a.toml") mkdirSync(join(directory, "policy.d"));
    symlinkSync("nowhere", join(directory, name));
    return directory;
  };
  const load = (directory: string) => () => loadConfig({ env: {}, path: join(directory, "shmlink.toml") });
  for (const name of ["shmlink.toml", "policy.d/a.toml", "policy.d"]) {
    const directory = linked(name);
    expect(load(directory)).toThrow(`"${directory}/${name}": it is a symbolic link to nothing`);
  }
  const home = write({ "shmlink/x.txt": "" });
  symlinkSync("nowhere", join(home, "shmlink/shmlink.toml"));
  expect(() => loadConfig({ env: { XDG_CONFIG_HOME: home } })).toThrow("it is a symbolic link to nothing");
});

test("a policy.d that is no directory is an error", () => {
  const file = write({ "shmlink.toml": "", "policy.d": "" });
  const fifo = write({ "shmlink.toml": "" });
  Bun.spawnSync(["mkfifo", join(fifo, "policy.d")]);
  for (const directory of [file, fifo]) {
    const load = (): unknown => loadConfig({ env: {}, path: join(directory, "shmlink.toml") });
    expect(load).toThrow(`Cannot read policy directory "${directory}/policy.d": ENOTDIR`);
  }
});

test("what a file leaves out is built in", () => {
  const path = join(write({ "c.toml": "[limits]\nmaxSessionsPerUser = 7\n" }), "c.toml");
  const { config } = loadConfig({ env: {}, path });
  expect(config.limits).toEqual({ ...builtInConfig.limits, maxSessionsPerUser: 7 });
  expect(config.broker).toEqual(builtInConfig.broker);
});

test("a syntax error is one line with file, line and column", () => {
  const path = join(write({ "c.toml": "[broker]\nidleMs = = 3\n" }), "c.toml");
  let error: unknown;
  try {
    loadConfig({ env: {}, path });
  } catch (caught) {
    error = caught;
  }
  expect(error).toBeInstanceOf(ConfigError);
  expect((error as ConfigError).message).toMatch(/c\.toml:2:10: Invalid TOML: [^\n]+$/);
});

test("every wrong key and value is reported with its line and column, a misspelt one with the right word", () => {
  const text = `# a comment
[broker]
idleMs = "60"      # a string
  logLvel = "info"

[limit]
x = 1
[limits]
maxSessionsPerUser = -1
maxCapacityBytes = 1000000
defaultCapacityBytes = 9_223_372_036_854_775_807
maxQueuedBytes = 1e6
[wrap]
exposeTcp = 1
`;
  expect(problems(text)).toEqual([
    '3:1: "broker.idleMs" is "60": a whole number from 0 to 604800000 is wanted',
    '4:3: Unknown key "broker.logLvel": did you mean "logLevel"?',
    '6:1: Unknown key "limit": did you mean "limits"?',
    '9:1: "limits.maxSessionsPerUser" is -1: a whole number from 0 to 16777216 is wanted',
    '10:1: "limits.maxCapacityBytes" is 1000000: a power of two from 4096 to 1073741824 is wanted',
    '11:1: "limits.defaultCapacityBytes" is 9223372036854775807: a power of two from 4096 to 1073741824 is wanted',
    '14:1: "wrap.exposeTcp" is 1: true or false is wanted',
  ]);
});

test("a choice, a section that is no table, and names of Object.prototype are reported", () => {
  expect(problems('broker.logLevel = "loud"')).toEqual([
    '1:1: "broker.logLevel" is "loud": one of "error", "warn", "info", "debug" is wanted',
  ]);
  expect(problems("broker = 3")).toEqual(['1:1: "broker" is 3: a table is wanted, write [broker]']);
  expect(problems("[broker]\nconstructor = 1\n[toString]\n")).toEqual([
    '2:1: Unknown key "broker.constructor"',
    '3:1: Unknown key "toString"',
  ]);
  expect(problems("[wrap]\nexposeTcp = 2020-01-01")).toHaveLength(1);
});

test("problems in rules have the line of their key, in the right one of several", () => {
  const rule = (name: string, action: string): string =>
    `[[allow]]\nname = "${name}"\naction = "${action}"\nuid = [\n  "any", # uid =\n]\nservice = ["x"]\n`;
  expect(problems(rule("a", "dial") + rule("b", "dail"))).toEqual([
    expect.stringMatching(/^10:1: rule "b": action is "dail"/),
  ]);
  expect(problems(rule("a", "dial") + rule("a", "dial"))).toEqual(['9:1: rule "a": another rule has this name']);
  expect(problems(`${rule("a", "dial")}[[deny]]\nname = "a"\n`)).toEqual([expect.stringMatching(/^9:1: rule "a": /)]);
  expect(problems('[[allow]]\nname = "a"\n')).toHaveLength(2);
  expect(problems('allow = [{ name = "a", action = "no", uid = "any" }]')[0]).toStartWith("1:1: ");
  expect(problems('[[allow]]\nuser = "nobody-of-this-name"\naction = "dial"\n')).toEqual([
    '2:1: [[allow]] 1: user "nobody-of-this-name" does not exist',
  ]);
});

test("a default capacity above the largest is reported at the key that the file has", () => {
  expect(problems("[limits]\nmaxCapacityBytes = 4096")).toEqual([
    '2:1: "limits.defaultCapacityBytes" is 1048576: it is above limits.maxCapacityBytes, 4096',
  ]);
});

test("policy.d is read in the order of names, and the built-in rules come last", () => {
  const rule = (name: string): string => `[[deny]]\nname = "${name}"\nuid = 5\naction = "dial"\n`;
  const directory = write({
    "shmlink.toml": rule("first"),
    "policy.d/20-c.toml": rule("third"),
    "policy.d/10-b.toml": rule("second"),
    "policy.d/readme.txt": "not toml =",
    "policy.d/.hidden.toml": "not toml =",
  });
  const { config, sources } = loadConfig({ env: {}, path: join(directory, "shmlink.toml") });
  expect(config.rules.map(({ name }) => name)).toEqual(["first", "second", "third", "owner", "owner-fds"]);
  expect(sources).toHaveLength(3);
});

test("rules of a policy.d without shmlink.toml count, in the first place that has one of the two", () => {
  const rule = '[[deny]]\nname = "no"\nuid = 5\naction = "dial"\n';
  const home = write({
    "xdg/shmlink/policy.d/a.toml": rule,
    "empty/shmlink/policy.d/readme.txt": "",
    ".config/shmlink/shmlink.toml": "[broker]\nidleMs = 3\n",
  });
  const load = (directory: string) => checkConfig({ env: { XDG_CONFIG_HOME: join(home, directory), HOME: home } });
  const { config, sources } = load("xdg");
  expect(sources).toEqual([join(home, "xdg/shmlink/policy.d/a.toml")]);
  expect(config.rules.map(({ name }) => name)).toEqual(["no", "owner", "owner-fds"]);
  expect(load("empty").config.rules).toEqual(builtInConfig.rules);
  writeFileSync(join(home, "xdg/shmlink/policy.d/a.toml"), "[limits]\nmaxFdsPerUser = 1\n");
  expect(load("xdg").problems.map(({ message }) => message)).toEqual([
    expect.stringContaining('Key "limits" does not belong here'),
  ]);
});

test("a rule named owner replaces the built-in one; policy.d may hold nothing but rules, and no name twice", () => {
  const rule = (name: string): string => `[[deny]]\nname = "${name}"\nuid = "any"\naction = ["dial"]\n`;
  const directory = write({
    "shmlink.toml": rule("owner"),
    "policy.d/a.toml": `[broker]\nidleMs = 1\n`,
    "policy.d/b.toml": rule("owner"),
  });
  const checked = checkConfig({ env: {}, path: join(directory, "shmlink.toml") });
  expect(checked.config.rules.every(({ effect, name }) => effect === "deny" || name === "owner-fds")).toBe(true);
  expect(checked.problems.map(({ message }) => message)).toEqual([
    `${directory}/policy.d/a.toml:1:1: Key "broker" does not belong here: only [[allow]] and [[deny]] may stand in policy.d`,
    `${directory}/policy.d/b.toml:2:1: rule "owner": "${directory}/shmlink.toml" has one of this name`,
  ]);
});
