import { expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { findAccount } from "../../../lib/config/users.ts";
import { requires } from "../../helpers/requires.ts";

/** As a machine has them that has no getent(1). */
function withoutServices<T>(action: () => T): T {
  const path = process.env["PATH"];
  process.env["PATH"] = "/nonexistent";
  try {
    return action();
  } finally {
    process.env["PATH"] = path;
  }
}

function linesOf(path: string): string[][] {
  const lines = readFileSync(path, "utf8").trim().split("\n");
  return lines.map((line) => line.split(":"));
}

requires.test(
  [requires.program("id", "coreutils")],
  "findAccount() gives each user of /etc/passwd the groups that id(1) gives",
  () => {
    for (const [name = ""] of linesOf("/etc/passwd")) {
      const ids = execFileSync("id", ["-G", name], { encoding: "utf8" }).trim().split(" ").map(Number);
      const { gid, groups = [] } = findAccount(name) ?? {};
      expect([name, gid]).toEqual([name, ids[0]]);
      expect([name, new Set([gid, ...groups])]).toEqual([name, new Set(ids)]);
    }
  },
);

test("findAccount() reads /etc/group where there is no getent(1)", () => {
  const users = new Set(linesOf("/etc/passwd").map(([name]) => name));
  for (const [, , id, members = ""] of linesOf("/etc/group"))
    for (const member of members.split(",").filter((name) => users.has(name)))
      expect([member, ...(withoutServices(() => findAccount(member)) ?? { groups: [] }).groups]).toContain(Number(id));
});
