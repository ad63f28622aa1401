/** `shmlink take`: runs a program on descriptors that somebody offers. */
import { constants, SignalPipe } from "../../../ffi/mod.ts";
import { BrokerLink } from "../../client/broker-link.ts";
import type { Delivery } from "../../client/delivery.ts";
import { brokerGone } from "../../client/failure.ts";
import { FailureError } from "../../errors.ts";
import { Reactor } from "../../transport/reactor.ts";
import { Children, startChild } from "../child.ts";
import { type Command, makeCommand } from "../command.ts";
import { endingSignals, exitCodeOfSignal } from "../ending-signals.ts";
import type { LauncherState } from "../launcher.ts";
import { parseSeconds } from "../numbers.ts";
import { outliving } from "../outliving.ts";
import { parseServiceName } from "../service-name.ts";
import { UsageError } from "../usage-error.ts";

const { SIGCHLD, SIGINT } = constants;
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
  run: ({ name, wait, keep, stdio }, { program, launcher }) => {
    parseServiceName(name);
    if (program.length === 0)
      throw new UsageError(`Missing program: write "shmlink take ${name} -- PROGRAM [ARGUMENTS]"`);
    const waitMs = parseSeconds(wait, "--wait");
    const startedMs = performance.now();
    const leftMs = (): number => Math.max(waitMs - (performance.now() - startedMs), 0);
    using taker = new Taker(name, { argv: program, stdio: stdio === true, launcher });
    return outliving(
      () => taker.connect(),
      (link) => (keep === true ? taker.serve(link) : taker.once(link, leftMs())),
    );
  },
});

type Run = { readonly argv: readonly string[]; readonly stdio: boolean; readonly launcher: LauncherState };

/** Its programs stay when the broker ends. */
class Taker implements Disposable {
  readonly #name: string;
  readonly #run: Run;
  readonly #signals: SignalPipe;
  readonly #reactor: Reactor = new Reactor();
  readonly #children: Children = new Children();
  #stoppedBy: number | undefined;

  constructor(name: string, run: Run) {
    this.#name = name;
    this.#run = run;
    this.#signals = new SignalPipe([SIGCHLD, ...endingSignals(run.launcher)]);
    this.#reactor.add(this.#signals.fd, constants.EPOLLIN, () => this.#takeSignals());
  }

  connect(): BrokerLink {
    return BrokerLink.connect({ name: "shmlink take", reconnect: false });
  }

  /** @throws BrokerGone before it has what it takes */
  once(link: BrokerLink, waitMs: number): number {
    const delivery = link.requestDelivery(this.#name, waitMs > 0);
    const timer = this.#reactor.setTimer(waitMs > 0 ? waitMs : 10_000, () => {
      delivery.failure ??= new FailureError("timeout", `Cannot take "${this.#name}": nobody offered anything in time`);
    });
    try {
      if (!this.#settle(link, delivery)) return exitCodeOfSignal(this.#stoppedBy ?? 0);
    } finally {
      timer.cancel();
    }
    this.#start(delivery);
    while (this.#children.size > 0) this.#reactor.runOnce(-1);
    return this.#children.lastExitCode;
  }

  /** @throws BrokerGone */
  serve(link: BrokerLink): number {
    for (;;) {
      const delivery = link.requestDelivery(this.#name, true);
      if (!this.#settle(link, delivery)) break;
      this.#start(delivery);
    }
    while (this.#children.size > 0) this.#reactor.runOnce(-1);
    return exitCodeOfSignal(this.#stoppedBy ?? 0);
  }

  /** @returns false when a signal came first @throws FailureError what the broker says, BrokerGone */
  #settle(link: BrokerLink, delivery: Delivery): boolean {
    link.dispatch();
    const watching = this.#reactor.add(link.fd, constants.EPOLLIN, () => link.dispatch());
    try {
      while (!delivery.settled && this.#stoppedBy === undefined) {
        if (link.ended) throw brokerGone(`take "${this.#name}"`);
        this.#reactor.runOnce(-1);
      }
    } finally {
      watching.remove();
    }
    if (delivery.settled && delivery.failure === undefined) return true;
    delivery[Symbol.dispose]();
    if (delivery.failure !== undefined) throw withAdvice(delivery.failure, this.#name);
    return false;
  }

  #start(delivery: Delivery): void {
    using _closed = delivery;
    const listenNames = delivery.fds.map(() => this.#name.replaceAll(":", "-")); // LISTEN_FDNAMES is separated by ":"
    const env = process.env;
    this.#children.add(startChild({ ...this.#run, env, fds: delivery.fds, listenNames }));
  }

  #takeSignals(): void {
    for (const signal of this.#signals.take()) {
      if (signal === SIGCHLD) this.#children.reap();
      else this.#stop(signal);
    }
  }

  /** The terminal sends SIGINT to the programs as well; the others are meant for us alone and passed on. */
  #stop(signal: number): void {
    this.#stoppedBy ??= signal;
    if (signal !== SIGINT) this.#children.signal(signal);
  }

  [Symbol.dispose](): void {
    this.#reactor[Symbol.dispose]();
    this.#signals.close();
  }
}

function withAdvice(failure: Error, name: string): Error {
  if (!(failure instanceof FailureError) || failure.code !== "unknown-name") return failure;
  const advice = `run "shmlink offer ${name} …" there, or wait for it with --wait=SECONDS`;
  return new FailureError("unknown-name", `${failure.message}; ${advice}`, { cause: failure });
}
