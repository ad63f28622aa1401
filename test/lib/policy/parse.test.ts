import { expect, test } from "bun:test";
import { parseRules } from "../../../lib/policy/parse.ts";

const GOOD = { name: "r", uid: ["owner", 1000], action: ["dial"], service: "a*" };
const USERS: Readonly<Record<string, number>> = { alice: 1000 };

function parse(...tables: unknown[]) {
  return parseRules("allow", tables, (name) => USERS[name]);
}

function complaints(table: object): string[] {
  return parse(table).problems.map(({ path, message }) => `${path.join(".")}: ${message}`);
}

test("a whole rule is taken as it is; one value stands for a list of one", () => {
  const [parsed] = parse(GOOD).rules;
  expect(parsed?.rule).toEqual({
    name: "r",
    effect: "allow",
    where: "",
    criteria: { uid: ["owner", 1000], action: ["dial"], service: ["a*"] },
  });
  expect(parsed?.path).toEqual(["allow", 0]);
  const all = { user: "alice", gid: 5, exe: "/usr/*", unit: "a.service", cgroup: "/x/*", engine: "podman", app: "*" };
  expect(parse({ ...all, instance: ["1", "2"], action: "offer", fd: "tcp" }).rules[0]?.rule.criteria).toEqual({
    uid: [1000],
    gid: [5],
    exe: ["/usr/*"],
    unit: ["a.service"],
    cgroup: ["/x/*"],
    engine: ["podman"],
    app: ["*"],
    instance: ["1", "2"],
    action: ["offer"],
    fd: ["tcp"],
  });
});

test("a wrong value is reported with the rule and the key", () => {
  expect(complaints({ ...GOOD, action: ["dail"] })[0]).toEndWith('is wanted: did you mean "dial"?');
  expect(complaints({ ...GOOD, uid: ["owners"] })[0]).toContain('allow.0.uid: rule "r": uid is ["owners"]');
  expect(complaints({ ...GOOD, uid: [] })[0]).toContain("uid is []");
  expect(complaints({ ...GOOD, uid: -1 })[0]).toContain("uid is -1");
  expect(complaints({ ...GOOD, gid: "wheel" })[0]).toContain('gid is "wheel"');
  expect(complaints({ ...GOOD, user: "bob" })[0]).toContain('user "bob" does not exist');
  expect(complaints({ ...GOOD, service: 3 })[0]).toContain("service is 3");
  expect(complaints({ ...GOOD, srevice: "x" })).toEqual([
    'allow.0.srevice: rule "r": unknown key "srevice": did you mean "service"?',
  ]);
});

test("fd is a type of descriptors or a glob that fits one: what can never come is a mistake", () => {
  expect(complaints({ ...GOOD, fd: ["tcp", "pip"] })[0]).toMatch(
    /^allow\.0\.fd: rule "r": fd is \["tcp","pip"\]: a type or a glob .* is wanted: did you mean "pipe"\?$/,
  );
  expect(complaints({ ...GOOD, fd: "unx-*" })[0]).toContain('fd is "unx-*"');
  expect(complaints({ ...GOOD, fd: "" })[0]).toContain('fd is ""');
  for (const fd of ["*", "unix-*", "pip?", ["dma-buf", "other"]]) expect(complaints({ ...GOOD, fd })).toEqual([]);
});

test("what a rule says of descriptors is taken as it is", () => {
  const about = { fd: "memfd", family: ["inet", "inet6"], access: "read", seals: ["write", "grow"], exporter: "i9*" };
  const sizes = { minSizeBytes: 0, maxSizeBytes: 4096 };
  expect(parse({ uid: 1, action: "offer", ...about, ...sizes }).rules[0]?.rule.criteria).toEqual({
    uid: [1],
    action: ["offer"],
    fd: ["memfd"],
    family: ["inet", "inet6"],
    access: ["read"],
    seals: ["write", "grow"],
    exporter: ["i9*"],
    ...sizes,
  });
});

test("what no descriptor can be is reported, with what was meant", () => {
  expect(complaints({ ...GOOD, family: "inet4" })[0]).toEndWith('"other" is wanted: did you mean "inet"?');
  expect(complaints({ ...GOOD, access: ["raed"] })[0]).toEndWith('is wanted: did you mean "read"?');
  expect(complaints({ ...GOOD, seals: ["write", "shirnk"] })[0]).toEndWith('is wanted: did you mean "shrink"?');
  expect(complaints({ ...GOOD, seals: [] })[0]).toContain("seals is []");
  expect(complaints({ ...GOOD, exporter: "" })[0]).toContain('exporter is ""');
  for (const size of ["64M", -1, 1.5, 2n ** 60n, [1]])
    expect(complaints({ ...GOOD, maxSizeBytes: size })[0]).toEndWith("a whole number of bytes is wanted");
  expect(complaints({ ...GOOD, minSizeBytes: 2, maxSizeBytes: 1 })).toEqual([
    'allow.0.minSizeBytes: rule "r": minSizeBytes is 2: it is above maxSizeBytes, 1',
  ]);
  expect(complaints({ ...GOOD, maxsize: 1 })[0]).toContain('unknown key "maxsize"');
  expect(complaints({ ...GOOD, seal: "write" })[0]).toEndWith('did you mean "seals"?');
});

test("an [[allow]] says for whom and to what; a [[deny]] without either is for all", () => {
  expect(complaints({}).map((text) => text.split(":")[0])).toEqual(["allow.0.uid", "allow.0.action"]);
  expect(parseRules("deny", [{}], () => undefined)).toEqual({
    rules: [{ rule: { name: "deny#1", effect: "deny", where: "", criteria: {} }, path: ["deny", 0] }],
    problems: [],
  });
});

test("two rules of one name, the reserved name, and what is no list of tables are refused", () => {
  expect(parse(GOOD, GOOD).problems[0]?.path).toEqual(["allow", 1, "name"]);
  expect(complaints({ ...GOOD, name: "default" })[0]).toContain("stands for the refusal");
  expect(complaints({ ...GOOD, name: "a b" })[0]).toContain('name is "a b"');
  expect(parseRules("deny", "x", () => undefined).problems[0]?.message).toContain("[[deny]]");
  expect(parse(3).problems[0]?.message).toContain("[[allow]] 1 is not a table");
});
