/** Names of users and groups to ids, as this machine knows them. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

/** Asks /etc/passwd, then getent(1), which also knows users of a directory service. @returns undefined for an unknown name */
export function findUser(name: string): number | undefined {
  return find("passwd", name);
}

/** The same of groups. */
export function findGroup(name: string): number | undefined {
  return find("group", name);
}

/** passwd(5) and group(5): the id is the third field of both. */
type Database = "passwd" | "group";

function find(database: Database, name: string): number | undefined {
  if (!/^[A-Za-z0-9_.@][A-Za-z0-9_.@$-]*$/.test(name)) return undefined;
  return idIn(readFile(database), name) ?? idIn(askServices(database, name), name);
}

function readFile(database: Database): string {
  try {
    return readFileSync(`/etc/${database}`, "utf8");
  } catch {
    return "";
  }
}

function askServices(database: Database, name: string): string {
  // Only now: every command that reads the configuration would load it otherwise.
  const { execFileSync } = createRequire(import.meta.url)("node:child_process") as typeof import("node:child_process");
  try {
    return execFileSync("getent", [database, name], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  } catch {
    return ""; // not there, or it knows no such name
  }
}

function idIn(lines: string, name: string): number | undefined {
  const fields = lines.split("\n").map((line) => line.split(":"));
  const id = fields.find(([each]) => each === name)?.[2];
  return id === undefined || !/^\d+$/.test(id) ? undefined : Number(id);
}
