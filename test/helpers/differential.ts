/** The same script is run twice, natively and with each of its programs under wrap: exit codes, output, errors and logs
 *  have to be the same, and every listener has to be handed off. */
import { expect } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Requirement, requires } from "./requires.ts";
import { freePort, Running, Stage } from "./wrapped.ts";

const bash = requires.program("bash", "bash");

/** run COMMAND… runs it as this round does, and serve, in the background, is it; ready PORT N waits until
 *  there are N listeners, or one where it is left out; ended PID NAME waits for it. */
const PRELUDE = `
exec 2>&1 # two pipes are read in any order
run() { $WRAP "$@"; }
serve() { exec $WRAP "$@"; }
ready() {
  until [ "$(if [ -n "$WRAP" ]; then compgen -G "$REGISTRY/*_$1.json"; else
    grep -h ":$(printf %04X "$1") [0-9A-F:]* 0A " /proc/net/tcp /proc/net/tcp6; fi | wc -l)" -ge "\${2:-1}" ]
  do sleep 0.02; done
}
ended() { wait "$1"; echo "$2 ended with $?"; }
`;

export type Script = {
  readonly needs: readonly Requirement[];
  /** How many listeners the wrapped round hands off. */
  readonly listeners: number;
  readonly text: string;
  /** Lines of programs that write at the same time come in any order. */
  readonly isSorted?: boolean;
  /** Its runtime sends its own threads signals at any moment (Go's SIGURG): a connect() that one of them interrupts goes over TCP. */
  readonly isInterrupted?: boolean;
};

const INTERRUPTED = /a signal interrupted connect\(\)$/;

/** How long one round may wait for what never comes, in seconds; past it all that it started in its process group is ended. */
const PATIENCE = 55;
/** What timeout(1) ends with then. */
const TIMED_OUT = 124;

/** One round, in a folder of its own. @returns what it said, with ports by their names */
async function play(stage: Stage, script: Script, wrap: string): Promise<string> {
  const folder = join(stage.path, wrap === "" ? "native" : "wrapped");
  mkdirSync(folder);
  const [a, b] = [freePort(), freePort()];
  const file = join(folder, "script");
  const names = `WRAP="${wrap}" REGISTRY="${join(stage.path, "registry")}" A=${a} B=${b}`;
  writeFileSync(file, `${names}\n${PRELUDE}${script.text}\n`);
  const running = new Running(["timeout", `${PATIENCE}`, "bash", file], folder);
  const code = await running.exit;
  if (code === TIMED_OUT)
    throw new Error(
      `The round in ${JSON.stringify(folder)} waits without end. It said:\n${running.output}\n${logs(folder)}`,
    );
  const lines = `${running.output}script ended with ${code}`
    .replaceAll(folder, "FOLDER")
    .replaceAll(new RegExp(`\\b${a}\\b`, "g"), "PORT-A") // the digits of a port may be part of a checksum
    .replaceAll(new RegExp(`\\b${b}\\b`, "g"), "PORT-B")
    .split("\n");
  return (script.isSorted === true ? lines.sort() : lines).join("\n");
}

/** What the programs of a round have logged. */
function logs(folder: string): string {
  const names = readdirSync(folder).filter((name) => /(^|\.)log$/.test(name));
  return names.map((name) => `${name}:\n${readFileSync(join(folder, name), "utf8")}`).join("\n");
}

/** Makes a test of each script. */
export function compareScripts(scripts: Readonly<Record<string, Script>>): void {
  for (const [name, script] of Object.entries(scripts)) {
    requires.test([bash, ...script.needs], name, () => compare(script), 120_000);
  }
}

/** From the first line to the last that is not the same: what is seen natively, and what wrapped. */
function differences(native: string, wrapped: string): string[] {
  const [left, right] = [native.split("\n"), wrapped.split("\n")];
  const most = Math.min(left.length, right.length);
  let before = 0;
  while (before < most && left[before] === right[before]) before += 1;
  let after = 0;
  while (after < most - before && left.at(-1 - after) === right.at(-1 - after)) after += 1;
  const rest = (lines: string[], whose: string): string[] =>
    lines.slice(before, lines.length - after).map((line) => `${whose} ${line}`);
  return [...rest(left, "native:"), ...rest(right, "wrapped:")];
}

async function compare(script: Script): Promise<void> {
  await using stage = new Stage();
  const log = join(stage.path, "log");
  const native = await play(stage, script, "");
  const wrapped = await play(stage, script, stage.wrapCommand([], { flags: [`--log=${log}`] }).join(" "));
  expect(differences(native, wrapped)).toEqual([]);
  const said = existsSync(log) ? readFileSync(log, "utf8") : "";
  expect(said.match(/Handed off tcp:/g) ?? [], said).toHaveLength(script.listeners);
  const isExpected = (fallback: string): boolean => script.isInterrupted === true && INTERRUPTED.test(fallback);
  expect(stage.registry.fallbacks().filter((fallback) => !isExpected(fallback))).toEqual([]);
}
