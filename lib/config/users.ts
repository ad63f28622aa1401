/** Names of users and groups to ids, and users to their groups, as this machine knows them. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

/** What a login gives a process. */
export type Account = { readonly gid: number; readonly groups: readonly number[] };

/** Asks /etc/passwd, then getent(1), which also knows users of a directory service. @returns undefined for an unknown name */
export function findUser(name: string): number | undefined {
  return idOf(find("passwd", name));
}

/** The same of groups. */
export function findGroup(name: string): number | undefined {
  return idOf(find("group", name));
}

/** @param user  name or uid  @returns undefined for who is unknown */
export function findAccount(user: string | number): Account | undefined {
  const [name = "", , , gid = ""] = find("passwd", String(user), typeof user === "string" ? NAME : ID) ?? [];
  return isNumber(gid) ? { gid: Number(gid), groups: groupsOf(name) } : undefined;
}

/** passwd(5) and group(5): these columns are the same in both. */
type Database = "passwd" | "group";
const [NAME, ID] = [0, 2];

type Entry = readonly string[];

function find(database: Database, key: string, column = NAME): Entry | undefined {
  if (!/^[A-Za-z0-9_.@][A-Za-z0-9_.@$-]*$/.test(key)) return undefined;
  const findIn = (lines: string): Entry | undefined => entriesOf(lines).find((entry) => entry[column] === key);
  return findIn(readFile(database)) ?? findIn(askServices(database, key));
}

/** Supplementary ones; getent(1) of glibc knows those of a directory service, too. */
function groupsOf(name: string): number[] {
  const listed = entriesOf(readFile("group")).filter(([, , , members = ""]) => members.split(",").includes(name));
  const [, ...asked] = askServices("initgroups", name).split(/\s+/).filter(Boolean);
  return [...new Set([...listed.map(([, , id]) => Number(id)), ...asked.map(Number)])];
}

function readFile(database: Database): string {
  try {
    return readFileSync(`/etc/${database}`, "utf8");
  } catch {
    return "";
  }
}

function askServices(database: Database | "initgroups", name: string): string {
  // Only now: every command that reads the configuration would load it otherwise.
  const { execFileSync } = createRequire(import.meta.url)("node:child_process") as typeof import("node:child_process");
  try {
    return execFileSync("getent", [database, name], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  } catch {
    return ""; // not there, or it knows no such name
  }
}

function entriesOf(lines: string): Entry[] {
  const entries = lines.split("\n").map((line) => line.split(":"));
  return entries.filter(([, , id = ""]) => isNumber(id));
}

function idOf(entry: Entry | undefined): number | undefined {
  return entry === undefined ? undefined : Number(entry[ID]);
}

function isNumber(text: string): boolean {
  return /^\d+$/.test(text);
}
