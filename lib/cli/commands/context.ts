/** `shmlink context create`: a listening socket with an identity, for a container. */
import { chmodSync } from "node:fs";
import { type BorrowedFd, constants, pipe, SignalPipe } from "../../../ffi/mod.ts";
import { hangsUp } from "../../broker/classify.ts";
import { BrokerLink } from "../../client/broker-link.ts";
import { brokerGone } from "../../client/failure.ts";
import { Reactor } from "../../transport/reactor.ts";
import { CONTEXT_WORD_RULE, contextName, isContextWord, quoteWord } from "../../util/context-word.ts";
import { Children, startChild } from "../child.ts";
import { type Command, makeCommand } from "../command.ts";
import { endingSignals, exitCodeOfSignal } from "../ending-signals.ts";
import { OK } from "../exit-codes.ts";
import type { LauncherState } from "../launcher.ts";
import { listenUnix, removeUnix } from "../offer/address.ts";
import { openFd } from "../open-fd.ts";
import { OutlivingLink } from "../outliving.ts";
import { printError } from "../output.ts";
import { reportError } from "../report-error.ts";
import { missingOption, UsageError } from "../usage-error.ts";

const { SIGCHLD } = constants;

const ARGS = {
  verb: { type: "positional", required: true, description: "create" },
  engine: { type: "string", valueHint: "NAME", description: "what made the sandbox, such as podman" },
  app: { type: "string", valueHint: "NAME", description: "what runs in it" },
  instance: { type: "string", valueHint: "ID", description: "which one of several" },
  path: { type: "string", valueHint: "PATH", description: "where to make the socket" },
  mode: {
    type: "string",
    valueHint: "OCTAL",
    default: "600",
    description: "permissions of the socket (default 600)",
  },
  "close-fd": { type: "string", valueHint: "N", description: "an inherited pipe or socket that ends the context" },
} as const;

export const command: Command = makeCommand({
  name: "context",
  summary: "make a listening socket with an identity, for a container",
  description: `"context create" makes a socket at PATH; who connects there is known to the broker by engine, app and
instance, whatever user it is, and is let in only by rules that name them (docs/policy.md). Mount it
into the container and set SHMLINK_SOCKET there. The context lives until PROGRAM ends, without one
until it is interrupted; with --close-fd it lives on until the other end of that pipe or socket is
closed, and the command returns at once. Then the path is removed, except with --close-fd. Within a
context no other one can be made.`,
  takesProgram: true,
  args: ARGS,
  examples: [
    [
      "shmlink context create --engine=podman --app=shop --instance=1 --path=/run/shop.sock -- podman run -v /run/shop.sock:/shmlink.sock -e SHMLINK_SOCKET=/shmlink.sock shop",
      "a container with an identity of its own",
    ],
  ],
  run: ({ verb, engine, app, instance, path, mode, "close-fd": closeFd }, { program, launcher, verbose }) => {
    if (verb !== "create") throw new UsageError(`Unknown action: "${verb}" is not create`);
    const identity = {
      engine: neededWord(engine, "engine"),
      app: neededWord(app, "app"),
      instance: neededWord(instance, "instance"),
    };
    const permissions = parseMode(mode);
    const fd = parseFd(closeFd);
    if (fd !== undefined && program.length > 0)
      throw new UsageError("Cannot use --close-fd with a program: one of them ends it");
    const at = needed(path, "path");
    if (at.startsWith("@"))
      throw new UsageError(
        `Cannot use --path "${at}": an abstract socket has no file to mount; write "./${at}" for a file of that name`,
      );
    using listener = listenUnix(at);
    using removing = new DisposableStack();
    removing.defer(() => removeUnix(at));
    chmodSync(at, permissions);
    if (fd !== undefined) {
      using link = BrokerLink.connect({ name: "shmlink context" });
      link.createContext({ ...identity, listener, closeFd: fd });
      removing.move();
      return OK;
    }
    using signals = new SignalPipe([SIGCHLD, ...endingSignals(launcher)]); // from here on the path is always removed
    const { reader, writer } = pipe();
    using _writer = writer; // closed at our end, whatever it is
    using closing = reader;
    using staying = new Staying(signals, { argv: program, launcher });
    try {
      return staying.stay(
        (link) => link.createContext({ ...identity, listener, closeFd: closing }),
        () => printError(`shmlink: context ${contextName(identity)} at ${at}\n`),
      );
    } catch (error) {
      if (!staying.isRunning) throw error;
      reportError(error, verbose);
      listener.close(); // nobody would answer there
      removing.dispose();
      return staying.waitForProgram();
    }
  },
});

type Run = { readonly argv: readonly string[]; readonly launcher: LauncherState };

/** Until the program ends, or a signal comes where there is none, or none yet. A broker that ends is found again, and told again. */
class Staying implements Disposable {
  readonly #run: Run;
  readonly #signals: SignalPipe;
  readonly #reactor: Reactor = new Reactor();
  readonly #children: Children = new Children();
  #hasBegun = false;
  #stoppedBy: number | undefined;

  /** @param signals  lent */
  constructor(signals: SignalPipe, run: Run) {
    this.#run = run;
    this.#signals = signals;
    this.#reactor.add(signals.fd, constants.EPOLLIN, () => this.#takeSignals());
  }

  /** @param started  a program that was not there yet when the signals came */
  #takeSignals(started?: number): void {
    for (const signal of this.#signals.take()) {
      if (signal === SIGCHLD) this.#children.reap();
      else if (this.#run.argv.length === 0 || !this.#hasBegun) this.#stoppedBy ??= signal;
      else this.#children.passOn(signal, started);
    }
  }

  /** Whether the program runs. */
  get isRunning(): boolean {
    return this.#children.size > 0;
  }

  get #isOver(): boolean {
    return this.#stoppedBy !== undefined || (this.#run.argv.length > 0 && this.#hasBegun && !this.isRunning);
  }

  get #exitCode(): number {
    return this.#stoppedBy === undefined ? this.#children.lastExitCode : exitCodeOfSignal(this.#stoppedBy);
  }

  /** @param create  asks a broker for the context @param onCreated  called once @throws what a broker refuses */
  stay(create: (link: BrokerLink) => void, onCreated: () => void): number {
    const purpose = "keep the context";
    using broker = new OutlivingLink({ name: "shmlink context", purpose, reactor: this.#reactor });
    const act = (link: BrokerLink): void => {
      create(link);
      this.#takeSignals(); // one may have come while we were waiting for the broker
      if (!this.#hasBegun && !this.#isOver) this.#begin(onCreated);
      while (!this.#isOver && !link.ended) this.#reactor.runOnce(-1);
      if (!this.#isOver) throw brokerGone(purpose);
    };
    broker.outlive(act, () => this.#isOver);
    return this.#exitCode;
  }

  #begin(onCreated: () => void): void {
    onCreated();
    this.#hasBegun = true;
    const { argv, launcher } = this.#run;
    if (argv.length === 0) return;
    const program = startChild({ argv, env: process.env, fds: [], launcher });
    this.#children.add(program);
    this.#takeSignals(program);
  }

  /** Without a context. */
  waitForProgram(): number {
    while (this.isRunning) this.#reactor.runOnce(-1);
    return this.#exitCode;
  }

  [Symbol.dispose](): void {
    this.#reactor[Symbol.dispose]();
  }
}

function needed(text: string | undefined, option: "engine" | "app" | "instance" | "path"): string {
  const { valueHint, description } = ARGS[option];
  if (text === undefined) throw missingOption("context create", `--${option}=${valueHint}`, description);
  return text;
}

function neededWord(given: string | undefined, option: "engine" | "app" | "instance"): string {
  const text = needed(given, option);
  if (isContextWord(text)) return text;
  throw new UsageError(`Cannot use --${option} ${quoteWord(text)}: ${CONTEXT_WORD_RULE}`);
}

function parseMode(text: string): number {
  if (/^0?[0-7]{3}$/.test(text)) return Number.parseInt(text, 8);
  throw new UsageError(`Cannot use --mode "${text}": three octal digits are wanted, as in 600 or 666`);
}

function parseFd(text: string | undefined): BorrowedFd | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,7}$/.test(text))
    throw new UsageError(`Cannot use --close-fd "${text}": the number of an open descriptor is wanted`);
  const fd = openFd("close-fd", Number(text));
  if (hangsUp(fd)) return fd;
  throw new UsageError(`Cannot use --close-fd "${text}": a pipe or a socket is wanted, whose other end hangs up`);
}
