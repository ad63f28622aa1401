/** User names to ids, as this machine knows them. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

/** Asks /etc/passwd, then getent(1), which also knows users of a directory service. @returns undefined for an unknown name */
export function findUser(name: string): number | undefined {
  if (!/^[A-Za-z0-9_.@][A-Za-z0-9_.@$-]*$/.test(name)) return undefined;
  return uidIn(readPasswd(), name) ?? uidIn(askServices(name), name);
}

function readPasswd(): string {
  try {
    return readFileSync("/etc/passwd", "utf8");
  } catch {
    return "";
  }
}

function askServices(name: string): string {
  // Only now: every command that reads the configuration would load it otherwise.
  const { execFileSync } = createRequire(import.meta.url)("node:child_process") as typeof import("node:child_process");
  try {
    return execFileSync("getent", ["passwd", name], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  } catch {
    return ""; // not there, or it knows no such user
  }
}

function uidIn(passwd: string, name: string): number | undefined {
  const fields = passwd.split("\n").map((line) => line.split(":"));
  const uid = fields.find(([user]) => user === name)?.[2];
  return uid === undefined || !/^\d+$/.test(uid) ? undefined : Number(uid);
}
