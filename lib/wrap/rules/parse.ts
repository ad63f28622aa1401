/**
 * Rules from text, in the language of ip2unix and a little more: fields between commas, `\,` for a comma in a value,
 * in a file one rule a line and # before a comment. Pure.
 */
import { errno, errnoName } from "../../../ffi/mod.ts";
import { suggest } from "../../util/suggest.ts";
import { formatHost, parseHost, unmapHost } from "../host.ts";
import type { Action, Rule } from "./types.ts";

/** What is wrong with a rule. */
export class RuleError extends Error {
  override readonly name = "RuleError";
}

type Draft = { -readonly [K in keyof Rule]: Rule[K] };
type Setter = (draft: Draft, value: string) => void;

/** Fields without a value, by name. */
const FLAGS: Readonly<Record<string, (draft: Draft) => void>> = {
  in: (draft) => setDirection(draft, "in"),
  out: (draft) => setDirection(draft, "out"),
  tcp: () => undefined,
  stream: () => undefined,
  udp: setUdp,
  dgram: setUdp,
  datagram: setUdp,
  systemd: (draft) => setAction(draft, { kind: "systemd", name: undefined }),
  reject: (draft) => setAction(draft, { kind: "reject", errno: errno.EACCES }),
  blackhole: (draft) => setAction(draft, { kind: "blackhole" }),
  ignore: (draft) => setAction(draft, { kind: "ignore" }),
  noremove: (draft) => set(draft, "keepsFile", true),
  require: (draft) => set(draft, "require", true),
  "no-tcp": (draft) => set(draft, "noTcp", true),
};

/** Fields with a value. */
const VALUES: Readonly<Record<string, Setter>> = {
  addr: setAddress,
  address: setAddress,
  port: (draft, value) => set(draft, "ports", parsePorts(value)),
  path: (draft, value) => setAction(draft, { kind: "path", path: checkTemplate("path", value) }),
  abstract: (draft, value) => setAction(draft, { kind: "abstract", name: checkTemplate("abstract", value) }),
  systemd: (draft, value) => setAction(draft, { kind: "systemd", name: value }),
  reject: (draft, value) => setAction(draft, { kind: "reject", errno: parseErrno(value) }),
  mode: (draft, value) => set(draft, "mode", parseMode(value)),
  owner: (draft, value) => set(draft, "owner", value),
  group: (draft, value) => set(draft, "group", value),
  name: (draft, value) => set(draft, "name", value),
};

const NOT_OURS: Readonly<Record<string, string>> = {
  "from-unix": "Unix sockets that the program makes itself are left alone",
  "from-abstract": "Unix sockets that the program makes itself are left alone",
};

/** @throws RuleError */
export function parseRule(text: string): Rule {
  const draft: Draft = {
    text: text.trim(),
    direction: undefined,
    network: undefined,
    ports: undefined,
    isUdp: false,
    action: { kind: "hand-off" },
    mode: undefined,
    owner: undefined,
    group: undefined,
    keepsFile: false,
    name: undefined,
    require: false,
    noTcp: false,
  };
  for (const field of splitFields(draft.text)) applyField(draft, field);
  checkWhole(draft);
  return draft;
}

/** One rule a line; empty lines and those that begin with # say nothing. @param parse  of one line
 *  @throws RuleError with the line's number */
export function parseRules(text: string, parse: (line: string) => Rule = parseRule): Rule[] {
  return text.split("\n").flatMap((line, index) => {
    if (/^\s*(#|$)/.test(line)) return [];
    try {
      return [parse(line)];
    } catch (error) {
      if (!(error instanceof RuleError)) throw error;
      throw new RuleError(`Line ${index + 1}: ${error.message}`);
    }
  });
}

function splitFields(text: string): string[] {
  const fields = text.match(/(?:\\.|[^,\\])+/g) ?? [];
  if (text === "" || /(^|[^\\]),(,|$)|^,/.test(text)) throw new RuleError(`Empty field in rule "${text}"`);
  return fields.map((field) => field.trim().replace(/\\(.)/g, "$1"));
}

function applyField(draft: Draft, field: string): void {
  const equals = field.indexOf("=");
  const name = equals < 0 ? field : field.slice(0, equals);
  const reason = NOT_OURS[name];
  if (reason !== undefined) throw new RuleError(`Cannot use "${name}": ${reason}`);
  if (equals < 0) {
    const flag = Object.hasOwn(FLAGS, name) ? FLAGS[name] : undefined;
    if (flag !== undefined) return flag(draft);
    if (Object.hasOwn(VALUES, name)) throw new RuleError(`Missing value: write "${name}=VALUE"`);
  } else {
    const value = field.slice(equals + 1);
    const setter = Object.hasOwn(VALUES, name) ? VALUES[name] : undefined;
    if (setter !== undefined && value === "") throw new RuleError(`Missing value: write "${name}=VALUE"`);
    if (setter !== undefined) return setter(draft, value);
    if (Object.hasOwn(FLAGS, name)) throw new RuleError(`Cannot use "${field}": "${name}" takes no value`);
  }
  const known = [...new Set([...Object.keys(FLAGS), ...Object.keys(VALUES)])];
  throw new RuleError(`Unknown field "${name}" in a rule${suggest(name, known)}`);
}

function set<K extends keyof Draft>(draft: Draft, key: K, value: Draft[K]): void {
  if (draft[key] !== undefined && draft[key] !== false)
    throw new RuleError(`Rule "${draft.text}" says two things at once`);
  draft[key] = value;
}

function setDirection(draft: Draft, direction: "in" | "out"): void {
  if (draft.direction !== undefined)
    throw new RuleError(`Rule "${draft.text}" has both "in" and "out": leave both out`);
  draft.direction = direction;
}

function setUdp(draft: Draft): void {
  draft.isUdp = true;
}

function setAction(draft: Draft, action: Action): void {
  if (draft.action.kind !== "hand-off") {
    throw new RuleError(`Rule "${draft.text}" has two actions, "${draft.action.kind}" and "${action.kind}"`);
  }
  draft.action = action;
}

function setAddress(draft: Draft, value: string): void {
  const [text = "", bits] = value.split("/");
  const given = parseHost(text);
  const host = given && unmapHost(given);
  const most = given === undefined ? 0 : given.length * 8;
  const length = bits === undefined ? most : Number(bits);
  if (host === undefined || !/^\d*$/.test(bits ?? "") || bits === "" || length > most) {
    throw new RuleError(`Cannot use address "${value}": an IPv4 or IPv6 address is wanted, perhaps with /BITS`);
  }
  set(draft, "network", { host, bits: Math.max(length - (most - host.length * 8), 0) });
}

function parsePorts(value: string): { low: number; high: number } {
  const match = /^(\d+)(?:-(\d+))?$/.exec(value);
  const low = Number(match?.[1]);
  const high = Number(match?.[2] ?? low);
  if (match === null || high > 65_535 || low > high) {
    throw new RuleError(`Cannot use port "${value}": a port or a range such as 8000-8080 is wanted`);
  }
  return { low, high };
}

function parseErrno(value: string): number {
  if (/^\d+$/.test(value) && Number(value) > 0 && Number(value) < 4096) return Number(value);
  for (let number = 1; number < 134; number++) if (errnoName(number) === value.toUpperCase()) return number;
  throw new RuleError(`Unknown error "${value}": a name such as EACCES or a number is wanted`);
}

function parseMode(value: string): number {
  if (!/^0?o?[0-7]{1,4}$/.test(value)) throw new RuleError(`Cannot use mode "${value}": octal such as 0660 is wanted`);
  return Number.parseInt(value.replace("o", ""), 8);
}

function checkTemplate(field: string, value: string): string {
  const wrong = /%.?/.exec(value.replace(/%[pat%]/g, ""));
  if (wrong !== null) throw new RuleError(`Unknown placeholder "${wrong[0]}" in ${field}: %p, %a, %t and %% are known`);
  return value;
}

function checkWhole({ direction, action, mode, owner, group, keepsFile, noTcp, text }: Draft): void {
  const wrong = (what: string): RuleError => new RuleError(`Rule "${text}": ${what}`);
  if (action.kind === "systemd" && direction !== "in") throw wrong('"systemd" is for listeners: write "in" too');
  if (noTcp && direction === "out") throw wrong('"no-tcp" is for listeners; "require" forbids plain TCP to clients');
  const hasFile = action.kind === "path" || action.kind === "hand-off";
  if (
    (mode !== undefined || owner !== undefined || group !== undefined || keepsFile) &&
    !(hasFile && direction !== "out")
  )
    throw wrong('"mode", "owner", "group" and "noremove" are about the file of a listener');
}

/** For a table of rules: what it applies to. */
export function describeSubject({ direction, network, ports, isUdp }: Rule): string {
  const where = network === undefined ? "any address" : `${formatHost(network.host)}/${network.bits}`;
  const which =
    ports === undefined
      ? "any port"
      : ports.low === ports.high
        ? `port ${ports.low}`
        : `ports ${ports.low}-${ports.high}`;
  return `${direction ?? "in, out"} ${isUdp ? "udp (never)" : "tcp"} ${where}, ${which}`;
}

/** For a table of rules: what happens. */
export function describeAction({ action, mode, owner, group, keepsFile, name, require, noTcp }: Rule): string {
  const main = {
    "hand-off": () => "hand off",
    path: () => `path ${(action as { path: string }).path}`,
    abstract: () => `abstract ${(action as { name: string }).name}`,
    systemd: () => `systemd ${(action as { name: string | undefined }).name ?? "(next)"}`,
    reject: () => `reject ${errnoName((action as { errno: number }).errno)}`,
    blackhole: () => "blackhole",
    ignore: () => "ignore",
  }[action.kind]();
  const more = [
    mode === undefined ? "" : `mode ${mode.toString(8).padStart(4, "0")}`,
    owner === undefined ? "" : `owner ${owner}`,
    group === undefined ? "" : `group ${group}`,
    keepsFile ? "noremove" : "",
    name === undefined ? "" : `name ${name}`,
    require ? "require" : "",
    noTcp ? "no-tcp" : "",
  ];
  return [main, ...more.filter(Boolean)].join(", ");
}
