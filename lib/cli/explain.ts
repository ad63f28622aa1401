/** What `shmlink config explain` is asked: words of a command line → peer and request, and the answer as text. */
import type { ShmlinkConfig } from "../config/schema.ts";
import { type Account, findAccount, findUser } from "../config/users.ts";
import { decide, type Explanation, explain } from "../policy/decide.ts";
import { unitOf } from "../policy/match.ts";
import { type ContextIdentity, OPERATIONS, type Operation, type Peer, type Request } from "../policy/types.ts";
import { processIdentity } from "../transport/peer.ts";
import { formatHost, hostPort, parseHostPort } from "../util/ip-address.ts";
import { suggest } from "../util/suggest.ts";
import { parseFds } from "./explain-fds.ts";
import { parseServiceName } from "./service-name.ts";
import { printable } from "./table.ts";
import { missingOption, UsageError } from "./usage-error.ts";

const PEER_KEYS = [
  "pid",
  "uid",
  "user",
  "gid",
  "groups",
  "exe",
  "unit",
  "cgroup",
  "engine",
  "app",
  "instance",
] as const;

/** Actions that name no service, so that rules with one never speak of them, and those that descriptors belong to. */
const NAMELESS: ReadonlySet<Operation> = new Set(["connect", "list", "delegate"]);
const RELAYING: ReadonlySet<Operation> = new Set(["offer", "take"]);

export type Question = {
  readonly peer: string | undefined;
  readonly action: string | undefined;
  readonly service: string | undefined;
  readonly fd: string | undefined;
  readonly owner: string | undefined;
};

export type Answer = {
  readonly decision: ReturnType<typeof decide>;
  readonly peer: Peer;
  readonly request: Request;
  readonly considered: readonly {
    readonly rule: string;
    readonly effect: string;
    readonly where: string;
    readonly mismatch: string | null;
  }[];
};

/** @throws UsageError */
export function answer(config: ShmlinkConfig, question: Question, brokerUid: number): Answer {
  const peer = parsePeer(question.peer ?? "", brokerUid);
  const what = parseAction(question.action);
  if (NAMELESS.has(what)) refuse("--service", question.service, what);
  if (!RELAYING.has(what)) refuse("--fd", question.fd, what);
  const request: Request = {
    what,
    service: parseService(question),
    ...(question.fd === undefined ? {} : { fds: parseFds(question.fd) }),
    target: { uid: question.owner === undefined ? brokerUid : parseId(question.owner, "--owner"), context: undefined },
  };
  const considered = explain(config.rules, peer, request).map(({ rule, mismatch }: Explanation) => {
    const { name, effect, where } = rule;
    return { rule: name, effect, where, mismatch: mismatch ?? null };
  });
  return { decision: decide(config.rules, peer, request), peer, request, considered };
}

function refuse(option: string, value: string | undefined, what: Operation): void {
  if (value === undefined) return;
  throw new UsageError(`Cannot use ${option} "${value}": the action ${what} has none, the broker never asks that`);
}

export function renderAnswer({ decision, peer, considered }: Answer): string {
  const verdict = decision.kind === "allow" ? "allowed" : `refused: ${decision.reason}`;
  const lines = considered.map(({ rule, effect, where, mismatch }) => {
    const why = mismatch === null ? "fits" : `does not fit: ${mismatch}${moreAbout(peer, mismatch)}`;
    return `  ${effect} "${rule}" (${where}): ${why}`;
  });
  return [`${verdict} (rule "${decision.rule}", ${decision.where})`, ...lines]
    .map((line) => `${printable(line)}\n`)
    .join("");
}

function moreAbout({ uid, gid }: Peer, mismatch: string): string {
  if (mismatch === "context") return ", it names no engine, app or instance, and who asks is in a context";
  return mismatch === "gid" && gid === null
    ? `, user ${uid} is not known here (--peer takes gid=N and groups=N:N)`
    : "";
}

/** A context's name follows another rule, and what has no name has none. */
function parseService({ service = "", action }: Question): string {
  if (service === "" || action === "context") return service;
  return action === "register" || action === "resolve" ? parseListenerName(service) : parseServiceName(service);
}

function parseListenerName(text: string): string {
  const found = text.startsWith("tcp:") ? parseHostPort(text.slice("tcp:".length)) : undefined;
  if (found !== undefined) return `tcp:${hostPort(formatHost(found.host), found.port)}`;
  throw new UsageError(`Cannot use name "${text}": tcp:ADDRESS:PORT is wanted, as in tcp:127.0.0.1:80 or tcp:[::1]:80`);
}

function parseAction(text: string | undefined): Operation {
  const known = `one of ${OPERATIONS.join(", ")}`;
  if (text === undefined) throw missingOption("config explain", "--action=ACTION", known);
  const found = OPERATIONS.find((operation) => operation === text);
  if (found !== undefined) return found;
  throw new UsageError(`Invalid --action "${text}": ${known} is wanted${suggest(text, OPERATIONS)}`);
}

/** "uid=1001,exe=/usr/bin/x", "pid=1234" for a process that runs; what is left out is unknown, the uid the
 *  broker's, groups those that the user database has. */
function parsePeer(text: string, brokerUid: number): Peer {
  const fields = parseFields(text);
  const pid = fields.get("pid");
  const base = pid === undefined ? undefined : processIdentity(parseId(pid, "pid"));
  if (pid !== undefined && base === undefined)
    throw new UsageError(`Invalid --peer "${text}": no process ${pid} that we may see`);
  const user = fields.get("user");
  const named = parseUser(text, fields);
  const uid = named ?? base?.uid ?? brokerUid;
  const account = named === undefined && base !== undefined ? base : findAccount(user ?? uid);
  return {
    uid,
    ...parseGroups(fields, account),
    exe: fields.get("exe") ?? base?.exe ?? "",
    cgroup: parseCgroup(text, fields) ?? base?.cgroup ?? "",
    context: parseContext(fields),
    brokerUid,
  };
}

/** @returns the uid that either of them names @throws UsageError where they name two */
function parseUser(text: string, fields: ReadonlyMap<string, string>): number | undefined {
  const [user, digits] = [fields.get("user"), fields.get("uid")];
  const uid = digits === undefined ? undefined : parseId(digits, "uid");
  if (user === undefined) return uid;
  const found = findUser(user);
  if (found === undefined) throw new UsageError(`Invalid --peer "${text}": user "${user}" does not exist`);
  if (uid === undefined || uid === found) return found;
  throw new UsageError(`Invalid --peer "${text}": user "${user}" has uid ${found}, not ${uid}; leave one of them out`);
}

/** @returns what either of them names @throws UsageError where the cgroup is not that unit's */
function parseCgroup(text: string, fields: ReadonlyMap<string, string>): string | undefined {
  const [cgroup, unit] = [fields.get("cgroup"), fields.get("unit")];
  if (unit === undefined) return cgroup;
  if (cgroup === undefined) return `/${unit}`;
  if (unitOf(cgroup) === unit) return cgroup;
  throw new UsageError(
    `Invalid --peer "${text}": cgroup "${cgroup}" is not one of unit "${unit}"; leave one of them out`,
  );
}

function parseGroups(fields: ReadonlyMap<string, string>, account: Account | undefined): Pick<Peer, "gid" | "groups"> {
  const [gid, groups] = [fields.get("gid"), fields.get("groups")];
  return {
    gid: gid === undefined ? (account?.gid ?? null) : parseId(gid, "gid"),
    groups: groups?.split(":").map((group) => parseId(group, "groups")) ?? account?.groups ?? [],
  };
}

function parseContext(fields: ReadonlyMap<string, string>): ContextIdentity | undefined {
  const [engine, app, instance] = ["engine", "app", "instance"].map((key) => fields.get(key));
  if (engine === undefined && app === undefined && instance === undefined) return undefined;
  return { engine: engine ?? "", app: app ?? "", instance: instance ?? "" };
}

function parseFields(text: string): ReadonlyMap<string, string> {
  const fields = new Map<string, string>();
  for (const [key, value] of text === "" ? [] : text.split(",").map(parseField)) {
    if (fields.has(key)) throw new UsageError(`Invalid --peer "${text}": ${key} is given twice`);
    fields.set(key, value);
  }
  return fields;
}

function parseField(field: string): [string, string] {
  const [key = "", ...rest] = field.split("=");
  if (rest.length > 0 && PEER_KEYS.some((known) => known === key)) return [key, rest.join("=")];
  throw new UsageError(`Invalid --peer field "${field}": KEY=VALUE is wanted, KEY one of ${PEER_KEYS.join(", ")}`);
}

function parseId(text: string, what: string): number {
  if (/^\d{1,10}$/.test(text)) return Number(text);
  throw new UsageError(`Invalid ${what} "${text}": a number is wanted`);
}
