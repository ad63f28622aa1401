import { expect, test } from "bun:test";
import { errno } from "../../../../ffi/mod.ts";
import { parseHost } from "../../../../lib/wrap/host.ts";
import { expand, findRule } from "../../../../lib/wrap/rules/match.ts";
import { parseRule, parseRules } from "../../../../lib/wrap/rules/parse.ts";
import type { Action, Question } from "../../../../lib/wrap/rules/types.ts";

function asked(direction: "in" | "out", address: string, port: number): Question {
  const host = parseHost(address);
  if (host === undefined) throw new Error(address);
  return { direction, endpoint: { host, port } };
}

const MATCHES: readonly (readonly [rule: string, yes: readonly Question[], no: readonly Question[]])[] = [
  ["ignore", [asked("in", "1.2.3.4", 1), asked("out", "::1", 65535)], []],
  ["in,ignore", [asked("in", "1.2.3.4", 1)], [asked("out", "1.2.3.4", 1)]],
  ["out,tcp,ignore", [asked("out", "1.2.3.4", 1)], [asked("in", "1.2.3.4", 1)]],
  ["udp,ignore", [], [asked("in", "1.2.3.4", 1), asked("out", "1.2.3.4", 1)]],
  ["port=80", [asked("in", "::", 80)], [asked("in", "::", 81), asked("in", "::", 8080)]],
  ["port=80-90", [asked("in", "::", 80), asked("in", "::", 90)], [asked("in", "::", 79), asked("in", "::", 91)]],
  ["addr=127.0.0.1", [asked("in", "127.0.0.1", 1), asked("in", "::ffff:127.0.0.1", 1)], [asked("in", "127.0.0.2", 1)]],
  ["address=::ffff:127.0.0.1", [asked("in", "127.0.0.1", 1)], [asked("in", "::1", 1)]],
  ["address=::ffff:10.0.0.0/104", [asked("in", "10.9.9.9", 1)], [asked("in", "11.0.0.1", 1), asked("in", "::1", 1)]],
  ["addr=10.1.128.0/17", [asked("out", "10.1.255.255", 1)], [asked("out", "10.1.127.255", 1), asked("out", "::", 1)]],
  ["addr=10.0.0.0/8", [asked("out", "10.255.0.1", 1)], [asked("out", "11.0.0.1", 1)]],
  ["addr=0.0.0.0/0", [asked("out", "9.9.9.9", 1)], [asked("out", "2001:db8::1", 1)]],
  ["addr=0.0.0.0", [asked("in", "0.0.0.0", 1)], [asked("in", "127.0.0.1", 1)]],
  ["addr=2001:db8::/33", [asked("out", "2001:db8:7fff::1", 1)], [asked("out", "2001:db8:8000::1", 1)]],
];

for (const [text, yes, no] of MATCHES) {
  test(`rule "${text}" applies where it says`, () => {
    const rules = [parseRule(text)];
    for (const question of yes) expect(findRule(rules, question), JSON.stringify(question)).toBe(rules[0]);
    for (const question of no) expect(findRule(rules, question), JSON.stringify(question)).toBeUndefined();
  });
}

test("the first rule that fits wins", () => {
  const rules = parseRules("# comment\n\nin,port=80,ignore\n  in,path=/a\nblackhole");
  expect(findRule(rules, asked("in", "::", 80))?.text).toBe("in,port=80,ignore");
  expect(findRule(rules, asked("in", "::", 81))?.text).toBe("in,path=/a");
  expect(findRule(rules, asked("out", "::", 81))?.text).toBe("blackhole");
});

const ACTIONS: readonly (readonly [string, Action])[] = [
  ["in", { kind: "hand-off" }],
  ["path=/run/%t-%a:%p", { kind: "path", path: "/run/%t-%a:%p" }],
  ["path=/a\\,b", { kind: "path", path: "/a,b" }],
  ["abstract=x%%", { kind: "abstract", name: "x%%" }],
  ["in,systemd", { kind: "systemd", name: undefined }],
  ["in,systemd=web", { kind: "systemd", name: "web" }],
  ["reject", { kind: "reject", errno: errno.EACCES }],
  ["reject=ECONNREFUSED", { kind: "reject", errno: errno.ECONNREFUSED }],
  ["reject=13", { kind: "reject", errno: 13 }],
  ["blackhole", { kind: "blackhole" }],
  ["ignore", { kind: "ignore" }],
];

for (const [text, action] of ACTIONS) {
  test(`rule "${text}" says what becomes of a socket`, () => expect(parseRule(text).action).toEqual(action));
}

test("a rule has mode, owner, group, name, require, no-tcp and noremove besides", () => {
  const rule = parseRule("in,path=/a,mode=0660,owner=root,group=7,name=web,require,no-tcp,noremove");
  expect(rule).toMatchObject({ mode: 0o660, owner: "root", group: "7", name: "web" });
  expect([rule.require, rule.noTcp, rule.keepsFile]).toEqual([true, true, true]);
});

const WRONG: readonly (readonly [string, string])[] = [
  ["", "Empty field"],
  ["in,,ignore", "Empty field"],
  ["in,out", 'both "in" and "out"'],
  ["ignore,reject", "two actions"],
  ["prot=80", 'did you mean "port"?'],
  ["port=", "Missing value"],
  ["port", "Missing value"],
  ["port=70000", "a port or a range"],
  ["port=9-8", "a port or a range"],
  ["port=80,port=81", "two things"],
  ["ignore=1", "takes no value"],
  ["addr=localhost", "an IPv4 or IPv6 address"],
  ["addr=10.0.0.0/33", "an IPv4 or IPv6 address"],
  ["addr=10.0.0.0/", "an IPv4 or IPv6 address"],
  ["reject=EWHAT", "Unknown error"],
  ["mode=9", "octal"],
  ["path=/%x", 'Unknown placeholder "%x"'],
  ["systemd", "for listeners"],
  ["out,no-tcp", "for listeners"],
  ["out,path=/a,mode=0600", "the file of a listener"],
  ["ignore,mode=0600", "the file of a listener"],
  ["from-unix=/x", "left alone"],
];

for (const [text, message] of WRONG) {
  test(`rule "${text}" is refused: ${message}`, () => expect(() => parseRule(text)).toThrow(message));
}

test("a wrong line is named", () => expect(() => parseRules("ignore\n\nfoo=1")).toThrow("Line 3: Unknown field"));

test("expand() puts port, address and type in", () => {
  expect(expand("/run/%t-%a:%p%%", asked("in", "::1", 80).endpoint)).toBe("/run/tcp-::1:80%");
});
