/** `shmlink wrap`: runs a program with its TCP sockets handed off. */
import { openSync } from "node:fs";
import { type FileLimit, getFileLimit } from "../../../ffi/mod.ts";
import { ListenerRegistry, type ListenerRegistryOptions } from "../../client/listener-registry.ts";
import { loadConfig } from "../../config/load.ts";
import type { ShmlinkConfig } from "../../config/schema.ts";
import { FailureError } from "../../errors.ts";
import { brokerSocketPath } from "../../transport/socket-path.ts";
import { howMany } from "../../util/how-many.ts";
import { basename, dirname, join } from "../../util/path.ts";
import { Journal, type Trace } from "../../wrap/journal.ts";
import type { Rule } from "../../wrap/rules/types.ts";
import { runWrapped } from "../../wrap/run.ts";
import { type Command, type CommandInput, makeCommand } from "../command.ts";
import { OK } from "../exit-codes.ts";
import { blockedSignals, ignoredSignals } from "../inherited-signals.ts";
import type { LauncherState } from "../launcher.ts";
import { passListenFds } from "../listen-fds.ts";
import { createLogger } from "../logger.ts";
import { printError, printText } from "../output.ts";
import { UsageError } from "../usage-error.ts";
import { renderSummary } from "../wrap-report.ts";
import { collectRules, renderRules } from "../wrap-rules.ts";

const MAX_NAME_CHARACTERS = 64;

export const command: Command = makeCommand({
  name: "wrap",
  summary: "run a program with its TCP sockets handed off as Unix sockets",
  description: `Runs PROGRAM unmodified. Where it listens on a TCP port, it gets a Unix socket in its place and the
address is registered with the broker; where it connects to a registered address, it gets a connected
Unix socket. It notices nothing: addresses and options look like TCP's. Everything else is plain TCP.
The port itself stays reachable for plain TCP clients, unless --no-tcp. The exit code is the program's:
128 + n when signal n ended it, 127 when it was not found, 126 when it could not be executed.
Rules say what becomes of which sockets, the first that fits; those of -r come first, then those of the
file, then wrap.rules of the configuration. Fields between commas: in, out, addr=IP[/BITS], port=N[-M];
path=P, abstract=NAME, systemd[=NAME], reject[=ERRNO], blackhole, ignore; mode=, owner=, group=, noremove,
name=, require (no plain TCP instead), no-tcp. %p, %a, %t stand for port, address and "tcp".
This is not a sandbox: it changes how a program talks, not what it may do.`,
  takesProgram: true,
  repeatable: ["rule"],
  args: {
    tcp: { type: "boolean", default: true, description: "do not serve the TCP port itself, only wrapped clients" },
    rule: { type: "string", alias: "r", valueHint: "RULE", description: "a rule; may be given again" },
    "rules-file": { type: "string", alias: "f", valueHint: "FILE", description: "rules, one a line, # for comments" },
    check: { type: "boolean", alias: "c", description: "say whether the rules are right, and run nothing" },
    print: { type: "boolean", alias: "p", description: "print the rules as a table, and run nothing" },
    explain: { type: "boolean", description: "say at the end what was trapped, where sockets went, and why" },
    trace: { type: "string", valueHint: "FILE", description: "write every trapped call and decision as JSON lines" },
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
    ["shmlink wrap -r in,port=80,path=/run/web.sock,mode=0660 -- nginx", "a socket where others expect it"],
    ["shmlink wrap --explain -- curl http://127.0.0.1:8123/", "which way it went, and why"],
  ],
  run: (args, input) => {
    const [first] = input.program;
    const { config } = loadConfig({ env: process.env });
    const rules = collectRules({
      rules: args.rule,
      file: args["rules-file"],
      configured: config.wrap.rules,
      program: first === undefined ? undefined : basename(first),
    });
    if (args.check === true || args.print === true) {
      printText(args.print === true ? renderRules(rules) : `${howMany(rules.length, "rule")}, all right\n`);
      return OK;
    }
    if (first === undefined) throw new UsageError('Missing program: write "shmlink wrap -- PROGRAM [ARGUMENTS]"');
    const journal = new Journal(args.trace === undefined ? undefined : openTrace(args.trace));
    const code = run(args, input, { config, rules, journal, first });
    if (args.explain === true) printError(renderSummary(journal.summary()));
    return code;
  },
});

type Arguments = {
  readonly tcp?: boolean | undefined;
  readonly name?: string | undefined;
  readonly "io-uring"?: string | undefined;
};

type Made = {
  readonly config: ShmlinkConfig;
  readonly rules: readonly Rule[];
  readonly journal: Journal;
  readonly first: string;
};

function run(args: Arguments, { program, verbose, launcher }: CommandInput, made: Made): number {
  const { config, rules, journal, first } = made;
  const env = process.env;
  using links = new DisposableStack();
  // Not at "info": the terminal is the program's. As lines, and without a look at process.stderr, which would make
  // the descriptor non-blocking that the program shares with us.
  const logger = createLogger({ level: verbose ? "debug" : "warn", env, isTerminal: false });
  const called = (name: string): ListenerRegistryOptions => ({
    connect: { name: name.slice(0, MAX_NAME_CHARACTERS) || "wrap" },
    logger,
  });
  const registry = links.use(ListenerRegistry.connect(called(args.name ?? basename(first))));
  const passed = passListenFds(env, program, launcher.inheritedFds, rules);
  return runWrapped({
    argv: passed.argv,
    env: definedVariables(passed.env),
    registry,
    // A broker that is there answers at once; one that is not must not keep the program waiting.
    namedRegistry: (name) => links.use(ListenerRegistry[registry.isServed() ? "connect" : "later"](called(name))),
    rules,
    given: passed.given,
    journal,
    directory: join(dirname(brokerSocketPath(env, process.geteuid?.() ?? 0)), "tcp"),
    exposeTcp: args.tcp !== false && config.wrap.exposeTcp,
    ioUring: choice("--io-uring", ["refuse", "allow"], args["io-uring"]),
    logger,
    fileLimit: originalLimit(launcher),
    ignoredSignals: ignoredSignals(launcher),
    blockedSignals: blockedSignals(launcher),
    inheritedFds: passed.inheritedFds,
    closedFds: launcher.closedFds,
  });
}

function openTrace(path: string): Trace {
  try {
    const onLoss = ({ message }: Error): void =>
      printError(`shmlink: Lines of the trace "${path}" are lost, and the program goes on: ${message}\n`);
    return { fd: openSync(path, "a", 0o600), onLoss };
  } catch (error) {
    throw new FailureError("invalid", `Cannot write a trace to "${path}": ${(error as Error).message}`);
  }
}

/** "NAME=value" strings. */
function definedVariables(env: Readonly<Record<string, string | undefined>>): string[] {
  const strings: string[] = [];
  for (const name in env) if (env[name] !== undefined) strings.push(`${name}=${env[name]}`);
  return strings;
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
