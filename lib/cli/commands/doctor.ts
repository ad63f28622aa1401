/** `shmlink doctor`: what works here, and what is missing for what. */
import { type Command, makeCommand } from "../command.ts";
import type { Finding } from "../doctor/probe.ts";
import { runProbes } from "../doctor/probes.ts";
import { FAILED, OK } from "../exit-codes.ts";
import { printRecord } from "../output.ts";
import { printable } from "../table.ts";

export const command: Command = makeCommand({
  name: "doctor",
  summary: "say what this kernel, user and runtime can do",
  description: `Tries what shmlink needs, for real and harmlessly, and says for each thing whether it works, what was
found, and what it is needed for. Starts no broker. Exits with 1 if something essential is missing;
what is only nice to have is marked and does not count.`,
  args: {
    json: { type: "boolean", description: "one JSON object: {ok, probes: [{name, ok, essential, detail, neededFor}]}" },
  },
  examples: [["shmlink doctor", "when something does not work"]],
  run: ({ json }) => {
    const probes = runProbes();
    const record = { ok: probes.every(({ ok, essential }) => ok || !essential), probes };
    printRecord(record, { json: json === true, text: () => renderFindings(probes, record.ok) });
    return record.ok ? OK : FAILED;
  },
});

function renderFindings(probes: readonly Finding[], ok: boolean): string {
  const width = Math.max(...probes.map(({ name }) => name.length));
  const lines = probes.map(({ name, ok: works, essential, detail, neededFor }) => {
    const state = works ? "ok  " : essential ? "FAIL" : "no  ";
    return `${state}  ${name.padEnd(width)}  ${printable(detail)}${works ? "" : ` (needed for ${neededFor})`}\n`;
  });
  return `${lines.join("")}\n${ok ? "Everything essential works" : "Something essential is missing: see FAIL above"}\n`;
}
