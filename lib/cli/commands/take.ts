/** `shmlink take`: runs a program on descriptors that somebody offers. */
import { constants, SignalPipe } from "../../../ffi/mod.ts";
import type { BrokerLink } from "../../client/broker-link.ts";
import { ANSWER_MS } from "../../client/broker-socket.ts";
import type { Delivery } from "../../client/delivery.ts";
import { brokerGone, nobodyInTime } from "../../client/failure.ts";
import { FailureError } from "../../errors.ts";
import { Reactor } from "../../transport/reactor.ts";
import { Children, findProgramOf, startChild } from "../child.ts";
import { type Command, makeCommand } from "../command.ts";
import { endingSignals, exitCodeOfSignal } from "../ending-signals.ts";
import type { LauncherState } from "../launcher.ts";
import { parseSeconds } from "../numbers.ts";
import { OutlivingLink } from "../outliving.ts";
import { reportError } from "../report-error.ts";
import { parseServiceName } from "../service-name.ts";
import { UsageError } from "../usage-error.ts";

const { SIGCHLD } = constants;
const DEFAULT_WAIT = "5";

export const command: Command = makeCommand({
  name: "take",
  summary: "run a program on descriptors that somebody offers",
  description: `Takes what is offered under NAME and runs PROGRAM with it: descriptors from 3 on, in the order of who
offered them, with LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES as from systemd, so that a server which
knows socket activation needs nothing else. With --stdio the first one is also stdin and stdout, as
with inetd. The exit code is the program's. With --keep it goes on: one PROGRAM for each bundle, side
by side, until it is interrupted.`,
  takesProgram: true,
  args: {
    name: { type: "positional", required: true, description: "as the other side offers it" },
    wait: {
      type: "string",
      alias: "w",
      valueHint: "SECONDS",
      default: DEFAULT_WAIT,
      description: `how long it may take to be offered (default ${DEFAULT_WAIT}); 0 fails at once`,
    },
    keep: { type: "boolean", alias: "k", description: "take one after another, a program for each" },
    stdio: { type: "boolean", description: "the first descriptor is also stdin and stdout" },
  },
  examples: [
    ["shmlink take web -- python3 server.py", "a server that takes its listener from LISTEN_FDS"],
    ["shmlink take --keep --stdio conn -- cat", "echo on every connection that is offered"],
  ],
  run: ({ name, wait, keep, stdio }, { program, launcher, verbose }) => {
    parseServiceName(name);
    if (program.length === 0)
      throw new UsageError(`Missing program: write "shmlink take ${name} -- PROGRAM [ARGUMENTS]"`);
    const waitMs = parseSeconds(wait, "--wait");
    findProgramOf({ argv: program, env: process.env }); // what is taken for one that cannot run would be lost
    using taker = new Taker(name, { argv: program, stdio: stdio === true, launcher });
    return keep === true ? taker.serve(verbose) : taker.once(waitMs);
  },
});

type Run = { readonly argv: readonly string[]; readonly stdio: boolean; readonly launcher: LauncherState };

/** Its programs stay when the broker ends. */
class Taker implements Disposable {
  readonly #name: string;
  readonly #run: Run;
  readonly #reactor: Reactor;
  readonly #broker: OutlivingLink;
  readonly #signals: SignalPipe;
  readonly #children: Children = new Children();
  #stoppedBy: number | undefined;
  /** Nobody has offered anything in time. */
  #isLate = false;
  readonly #owned: DisposableStack;

  constructor(name: string, run: Run) {
    this.#name = name;
    this.#run = run;
    using owned = new DisposableStack();
    const reactor = owned.use(new Reactor());
    this.#signals = owned.use(new SignalPipe([SIGCHLD, ...endingSignals(run.launcher)]));
    this.#broker = owned.use(new OutlivingLink({ name: "shmlink take", purpose: this.#purpose, reactor }));
    reactor.add(this.#signals.fd, constants.EPOLLIN, () => this.#takeSignals());
    this.#reactor = reactor;
    this.#owned = owned.move();
  }

  get #purpose(): string {
    return `take "${this.#name}"`;
  }

  once(waitMs: number): number {
    const timer = this.#reactor.setTimer(waitMs > 0 ? waitMs : ANSWER_MS, () => {
      this.#isLate = true;
    });
    const delivery = this.#take(waitMs > 0);
    timer.cancel();
    if (delivery === undefined) return exitCodeOfSignal(this.#stoppedBy ?? 0);
    this.#start(delivery);
    this.#waitForPrograms();
    return this.#children.lastExitCode;
  }

  serve(verbose: boolean): number {
    try {
      for (let delivery = this.#take(true); delivery !== undefined; delivery = this.#take(true)) this.#start(delivery);
    } catch (error) {
      if (this.#children.size === 0) throw error;
      const exitCode = reportError(error, verbose);
      this.#waitForPrograms();
      return exitCode;
    }
    this.#waitForPrograms();
    return exitCodeOfSignal(this.#stoppedBy ?? 0);
  }

  /** They are never left behind. */
  #waitForPrograms(): void {
    this.#broker.letGo();
    while (this.#children.size > 0) this.#reactor.runOnce(-1);
  }

  /** @returns undefined after a signal @throws FailureError what the broker says */
  #take(wait: boolean): Delivery | undefined {
    const delivery = this.#broker.outlive(
      (link) => this.#settle(link, link.requestDelivery(this.#name, wait)),
      () => this.#isOver,
    );
    if (delivery === undefined && this.#stoppedBy === undefined) throw nobodyInTime(this.#name);
    return delivery;
  }

  get #isOver(): boolean {
    return this.#stoppedBy !== undefined || this.#isLate;
  }

  /** @returns undefined when it is over before @throws FailureError what the broker says, BrokerGone */
  #settle(link: BrokerLink, delivery: Delivery): Delivery | undefined {
    this.#broker.read(); // and sends the request
    while (!delivery.settled && !this.#isOver && !link.ended) this.#reactor.runOnce(-1);
    if (this.#isLate) this.#withdraw(link, delivery);
    const isHere = delivery.settled && delivery.failure === undefined;
    if (isHere && this.#stoppedBy === undefined) return delivery; // else its program would never hear of that signal
    delivery[Symbol.dispose]();
    if (delivery.failure !== undefined) throw withAdvice(delivery.failure, this.#name);
    if (!this.#isOver) throw brokerGone(this.#purpose);
    return undefined;
  }

  /** What the broker has handed over by the time it hears that we are late is ours. */
  #withdraw(link: BrokerLink, delivery: Delivery): void {
    let isSilent = false;
    const timer = this.#reactor.setTimer(ANSWER_MS, () => {
      isSilent = true;
    });
    delivery.withdraw(nobodyInTime(this.#name));
    while (!delivery.settled && !isSilent && this.#stoppedBy === undefined && !link.ended) this.#reactor.runOnce(-1);
    timer.cancel();
  }

  #start(delivery: Delivery): void {
    using _closed = delivery;
    const listenNames = delivery.fds.map(() => this.#name.replaceAll(":", "-")); // LISTEN_FDNAMES is separated by ":"
    const env = process.env;
    const program = startChild({ ...this.#run, env, fds: delivery.fds, listenNames });
    this.#children.add(program);
    this.#takeSignals(program);
  }

  /** @param started  a program that was not there yet when the signals came */
  #takeSignals(started?: number): void {
    for (const signal of this.#signals.take()) {
      if (signal === SIGCHLD) this.#children.reap();
      else {
        this.#stoppedBy ??= signal;
        this.#children.passOn(signal, started);
      }
    }
  }

  [Symbol.dispose](): void {
    this.#owned.dispose();
  }
}

function withAdvice(failure: Error, name: string): Error {
  if (!(failure instanceof FailureError) || failure.code !== "unknown-name") return failure;
  const advice = `run "shmlink offer ${name} …" there, or wait for it with --wait=SECONDS`;
  return new FailureError("unknown-name", `${failure.message}; ${advice}`, { cause: failure });
}
