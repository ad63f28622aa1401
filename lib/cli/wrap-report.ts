/** What `wrap --explain` says after a run: which calls were trapped, where sockets went, by which rule, and why. */
import { howMany } from "../util/how-many.ts";
import { hostPort } from "../util/ip-address.ts";
import type { DecisionCount, Summary } from "../wrap/journal.ts";
import { renderTable } from "./table.ts";

export function renderSummary({ lostLines, ...counted }: Summary): string {
  const lost = lostLines === 0 ? "" : `shmlink: ${howMany(lostLines, "line")} of the trace could not be written\n`;
  return `${lost}${renderCounted(counted)}`;
}

function renderCounted({ traps, decisions }: Omit<Summary, "lostLines">): string {
  const rows = [...traps]
    .sort((a, b) => b.count - a.count)
    .map(({ call, count, totalUs, longestUs }) => [call, String(count), micros(totalUs / count), micros(longestUs)]);
  const calls =
    rows.length === 0
      ? "shmlink: no call was trapped\n"
      : `shmlink: trapped calls\n${renderTable(["CALL", "COUNT", "MEAN", "LONGEST"], rows)}`;
  if (decisions.length === 0) return `${calls}shmlink: the program neither listened nor connected by TCP\n`;
  const went = decisions.map((decision) => [
    decision.call,
    hostPort(decision.address, decision.port),
    String(decision.count),
    outcome(decision),
    decision.rule === undefined ? "-" : decision.rule,
    decision.reason ?? "-",
  ]);
  return `${calls}shmlink: sockets\n${renderTable(["CALL", "ADDRESS", "COUNT", "WENT", "RULE", "WHY"], went)}`;
}

function outcome({ outcome, path }: DecisionCount): string {
  switch (outcome) {
    case "unix":
      return path === undefined ? "to a Unix socket" : `to ${path}`;
    case "tcp":
      return "over plain TCP";
    case "refused":
      return "refused";
    case "nowhere":
      return "nowhere";
  }
}

function micros(us: number): string {
  return `${us.toFixed(1)} us`;
}
