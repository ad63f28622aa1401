/** `shmlink config`: is it right, and what is in force. */
import { stringify } from "smol-toml";
import { checkConfig, loadConfig, searchPaths } from "../../config/load.ts";
import type { ShmlinkConfig } from "../../config/schema.ts";
import { suggest } from "../../util/suggest.ts";
import { type Command, makeCommand } from "../command.ts";
import { FAILED, OK } from "../exit-codes.ts";
import { answer, type Question, renderAnswer } from "../explain.ts";
import { printError, printRecord } from "../output.ts";
import { escaped, printable } from "../table.ts";
import { UsageError } from "../usage-error.ts";

const ACTIONS = ["check", "show", "explain"];

export const command: Command = makeCommand({
  name: "config",
  summary: "check the configuration, show it, or explain what it would decide",
  description: `"config check" reads the configuration and names the file, line and column of everything that is wrong
with it. "config show" prints every value in force, whether from a file or built in. "config explain"
says whether a peer may do something, which rule decides it and why the others do not, without doing
it; the peer is KEY=VALUE,... with uid, user, gid, groups (N:N), exe, unit, cgroup, engine, app,
instance, or pid of a process that runs; groups are those of the user database unless given. A
descriptor is TYPE,KEY=VALUE,... with family, access, seals (joined by +), size in bytes and exporter,
and what is left out it has not; the next TYPE begins another one of the bundle.
FILE is read instead of the first one found: $SHMLINK_CONFIG, $XDG_CONFIG_HOME/shmlink/shmlink.toml
(or ~/.config), /etc/shmlink/shmlink.toml; rules also come from policy.d/*.toml beside it, or where it
would be.`,
  args: {
    verb: { type: "positional", required: true, description: "check, show or explain" },
    file: { type: "positional", required: false, description: "a TOML file" },
    peer: { type: "string", valueHint: "KEY=VALUE,...", description: "explain: who asks (default: this user)" },
    action: { type: "string", valueHint: "ACTION", description: "explain: what for, such as dial or offer" },
    service: { type: "string", valueHint: "NAME", description: "explain: the service or listener it is about" },
    fd: {
      type: "string",
      valueHint: "TYPE,KEY=VALUE,...",
      description: "explain: descriptors, such as tcp,family=inet6",
    },
    owner: { type: "string", valueHint: "UID", description: "explain: who offers the service" },
    json: { type: "boolean", description: "one JSON object" },
  },
  examples: [
    ["shmlink config check shmlink.toml", "before the broker reads it"],
    ["shmlink config explain --peer=uid=1001 --action=dial --service=db", "may user 1001 dial it, and why"],
    ["shmlink config explain --action=offer --fd=memfd,seals=write+grow,size=4096", "may it be passed on"],
    ["shmlink config show --json | jq .limits", "the limits in force"],
  ],
  run: ({ verb, file, json, peer, action, service, fd, owner }) => {
    const options = { env: process.env, ...(file === undefined ? {} : { path: file }) };
    if (verb === "check") return check(options, json === true);
    if (verb === "show") return show(options, json === true);
    if (verb === "explain") return explain(options, { peer, action, service, fd, owner }, json === true);
    throw new UsageError(
      `Unknown action: "${verb}" is none of check, show, explain${suggest(verb, ACTIONS).replace(/^: /, "; ")}`,
    );
  },
});

type Options = Parameters<typeof loadConfig>[0];

function check(options: Options, json: boolean): number {
  const { sources, problems } = checkConfig(options);
  const record = { ok: problems.length === 0, sources, problems: problems.map(({ message }) => message) };
  if (json || record.ok) printRecord(record, { json, text: () => describeSources(sources) });
  if (!json) for (const message of record.problems) printError(`shmlink: ${printable(message)}\n`);
  return record.ok ? OK : FAILED;
}

function describeSources(sources: readonly string[]): string {
  if (sources.length > 0) return `In order: ${printable(sources.join(", "))}\n`;
  return `In order: there is no configuration file, the built-in values are used (looked for ${searchPaths(process.env).join(", ")})\n`;
}

function show(options: Options, json: boolean): number {
  const { config, sources } = loadConfig(options);
  printRecord({ sources, ...config }, { json, text: () => renderConfig(config, sources) });
  return OK;
}

/** @returns FAILED for a refusal, so that a script can ask */
function explain(options: Options, question: Question, json: boolean): number {
  const found = answer(loadConfig(options).config, question, process.geteuid?.() ?? 0);
  printRecord(found, { json, text: () => renderAnswer(found) });
  return found.decision.kind === "allow" ? OK : FAILED;
}

/** As a file that would mean the same. */
function renderConfig({ rules, ...sections }: ShmlinkConfig, sources: readonly string[]): string {
  const from = sources.length === 0 ? "built in" : sources.join(", ");
  const tables = rules.map(({ name, effect, where, criteria }) => {
    const named = name.includes("#") ? {} : { name };
    return `# ${printable(where)}\n${stringify({ [effect]: [{ ...named, ...criteria }] })}`;
  });
  return escaped(`# ${printable(from)}\n${[stringify(sections), ...tables].join("\n")}`);
}
