/** `shmlink wrap`: runs a program with its TCP sockets handed off. */
import { basename, dirname, join } from "node:path";
import { type FileLimit, getFileLimit } from "../../../ffi/mod.ts";
import { BrokerQuery } from "../../client/broker-query.ts";
import { loadConfig } from "../../config/load.ts";
import { brokerSocketPath } from "../../transport/socket-path.ts";
import { runWrapped } from "../../wrap/run.ts";
import { type Command, makeCommand } from "../command.ts";
import type { LauncherState } from "../launcher.ts";
import { createLogger } from "../logger.ts";
import { UsageError } from "../usage-error.ts";

const MAX_NAME_CHARACTERS = 64;

export const command: Command = makeCommand({
  name: "wrap",
  summary: "run a program with its TCP sockets handed off as Unix sockets",
  description: `Runs PROGRAM unmodified. Where it listens on a TCP port, it gets a Unix socket in its place and the
address is registered with the broker; where it connects to a registered address, it gets a connected
Unix socket. It notices nothing: addresses and options look like TCP's. Everything else is plain TCP.
The port itself stays reachable for plain TCP clients, unless --no-tcp. The exit code is the program's:
128 + n when signal n ended it, 127 when it was not found, 126 when it could not be executed.
This is not a sandbox: it changes how a program talks, not what it may do.`,
  takesProgram: true,
  args: {
    tcp: { type: "boolean", default: true, description: "do not serve the TCP port itself, only wrapped clients" },
    "io-uring": {
      type: "string",
      valueHint: "refuse|allow",
      description: "whether programs may use io_uring, whose connections wrap does not see (default: refuse)",
    },
    name: {
      type: "string",
      valueHint: "NAME",
      description: 'what "shmlink ls" calls it (default: the program\'s name)',
    },
  },
  examples: [
    ["shmlink wrap -- python3 -m http.server 8123", 'a server; "shmlink ls" shows its Unix socket'],
    ["shmlink wrap -- curl http://127.0.0.1:8123/", "a client that reaches it over that socket"],
  ],
  run: ({ tcp, name, "io-uring": ioUring }, { program, verbose, launcher }) => {
    const [first] = program;
    if (first === undefined) throw new UsageError('Missing program: write "shmlink wrap -- PROGRAM [ARGUMENTS]"');
    const env = process.env;
    const { config } = loadConfig({ env });
    using link = BrokerQuery.connect({ name: (name ?? basename(first)).slice(0, MAX_NAME_CHARACTERS) || "wrap" });
    return runWrapped({
      argv: program,
      env: definedVariables(env),
      registry: link.registry(),
      directory: join(dirname(brokerSocketPath(env, process.geteuid?.() ?? 0)), "tcp"),
      exposeTcp: tcp !== false && config.wrap.exposeTcp,
      // Not at "info": the terminal is the program's.
      ioUring: choice("--io-uring", ["refuse", "allow"], ioUring),
      logger: createLogger({ level: verbose ? "debug" : "warn", env, isTerminal: process.stderr.isTTY === true }),
      fileLimit: originalLimit(launcher),
      ignoredSignals: launcher.ignoredSignals,
      inheritedFds: launcher.inheritedFds,
    });
  },
});

function definedVariables(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  return Object.fromEntries(Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined));
}

/** @throws UsageError */
function choice<T extends string>(option: string, choices: readonly T[], given: string | undefined): T | undefined {
  const found = choices.find((each) => each === given);
  if (given === undefined || found !== undefined) return found;
  throw new UsageError(`Cannot use "${given}" for ${option}: one of "${choices.join('", "')}" is wanted`);
}

function originalLimit({ fileLimit }: LauncherState): FileLimit | undefined {
  if (fileLimit === undefined) return undefined;
  const { hard } = getFileLimit();
  return { soft: fileLimit < hard ? fileLimit : hard, hard };
}
