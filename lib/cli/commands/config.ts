/** `shmlink config`: is it right, and what is in force. */
import { stringify } from "smol-toml";
import { checkConfig, loadConfig, searchPaths } from "../../config/load.ts";
import type { ShmlinkConfig } from "../../config/schema.ts";
import { suggest } from "../../util/suggest.ts";
import { type Command, makeCommand } from "../command.ts";
import { FAILED, OK } from "../exit-codes.ts";
import { printError, printRecord } from "../output.ts";
import { UsageError } from "../usage-error.ts";

const ACTIONS = ["check", "show"];

export const command: Command = makeCommand({
  name: "config",
  summary: "check the configuration, or show the one in force",
  description: `"config check" reads the configuration and names the file, line and column of everything that is wrong
with it. "config show" prints every value in force, whether from a file or built in. FILE is read
instead of the first one found: $SHMLINK_CONFIG, $XDG_CONFIG_HOME/shmlink/shmlink.toml (or ~/.config),
/etc/shmlink/shmlink.toml; rules also come from policy.d/*.toml beside it.`,
  args: {
    action: { type: "positional", required: true, description: "check or show" },
    file: { type: "positional", required: false, description: "a TOML file" },
    json: { type: "boolean", description: "one JSON object" },
  },
  examples: [
    ["shmlink config check shmlink.toml", "before the broker reads it"],
    ["shmlink config show --json | jq .limits", "the limits in force"],
  ],
  run: ({ action, file, json }) => {
    const options = { env: process.env, ...(file === undefined ? {} : { path: file }) };
    if (action === "check") return check(options, json === true);
    if (action === "show") return show(options, json === true);
    throw new UsageError(
      `Unknown action: "${action}" is none of check, show${suggest(action, ACTIONS).replace(/^: /, "; ")}`,
    );
  },
});

type Options = Parameters<typeof loadConfig>[0];

function check(options: Options, json: boolean): number {
  const { sources, problems } = checkConfig(options);
  const record = { ok: problems.length === 0, sources, problems: problems.map(({ message }) => message) };
  if (json || record.ok) printRecord(record, { json, text: () => describeSources(sources) });
  if (!json) for (const message of record.problems) printError(`shmlink: ${message}\n`);
  return record.ok ? OK : FAILED;
}

function describeSources(sources: readonly string[]): string {
  if (sources.length > 0) return `In order: ${sources.join(", ")}\n`;
  return `In order: there is no configuration file, the built-in values are used (looked for ${searchPaths(process.env).join(", ")})\n`;
}

function show(options: Options, json: boolean): number {
  const { config, sources } = loadConfig(options);
  printRecord({ sources, ...config }, { json, text: () => renderConfig(config, sources) });
  return OK;
}

/** As a file that would mean the same. */
function renderConfig({ rules, ...sections }: ShmlinkConfig, sources: readonly string[]): string {
  const from = sources.length === 0 ? "built in" : sources.join(", ");
  return `# ${from}\n${stringify({ ...sections, rule: rules })}`;
}
