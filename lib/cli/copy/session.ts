/** One channel on stdin and stdout, from the moment it is open to its end, with signals, progress and the summary. */
import { borrowFd, constants, fstat, SignalPipe, SyscallError } from "../../../ffi/mod.ts";
import type { Channel, Direction } from "../../channel/channel.ts";
import { Reactor } from "../../transport/reactor.ts";
import { endingSignals, exitCodeOfSignal } from "../ending-signals.ts";
import { OK } from "../exit-codes.ts";
import type { LauncherState } from "../launcher.ts";
import { printError, requireStdout } from "../output.ts";
import type { Flow } from "./flow.ts";
import { MessageFlow } from "./message-flow.ts";
import { Progress } from "./progress.ts";
import { Pump } from "./pump.ts";
import { Sink } from "./sink.ts";
import { StreamFlow } from "./stream-flow.ts";

const { EPOLLIN, S_IFCHR, S_IFMT, SIGCONT } = constants;
const STDIN = 0;
const STDOUT = 1;

export type SessionOptions = {
  readonly name: string;
  /** Lines as messages, instead of bytes. */
  readonly messages: boolean;
  /** What was wanted; the other side, or a grant, may have left less. */
  readonly direction: Direction;
  readonly verbose: boolean;
};

/** What listen and dial share: a reactor, and the signals that end them. */
export class CopyLoop implements Disposable {
  readonly reactor: Reactor = new Reactor();
  readonly #signals: SignalPipe;
  #pump: Pump | undefined;
  #signal: number | undefined;

  constructor(launcher: LauncherState) {
    requireStdout(); // before anybody is waited for
    this.#signals = new SignalPipe([...endingSignals(launcher), SIGCONT]);
    this.reactor.add(this.#signals.fd, EPOLLIN, () => this.#takeSignals());
  }

  /** The exit code that a signal asks for, if one came. */
  get stoppedBy(): number | undefined {
    return this.#signal === undefined ? undefined : exitCodeOfSignal(this.#signal);
  }

  #takeSignals(): void {
    for (const signal of this.#signals.take()) {
      if (signal === SIGCONT) this.#pump?.resumeInput();
      else this.#signal ??= signal;
    }
  }

  /** Copies until the channel has ended. The channel is closed only when all went well: a peer must be able to tell
   *  the end from an accident. @returns an exit code */
  copy(channel: Channel, options: SessionOptions): number {
    if (channel.direction === "receive" && options.direction !== "receive" && mayHoldData(STDIN))
      printError(`shmlink: nothing can be sent in this channel to "${options.name}": stdin is not read\n`);
    const flow: Flow = options.messages ? new MessageFlow() : new StreamFlow();
    const sink = new Sink(this.reactor, STDOUT, () => this.#pump?.resumeDelivery());
    const progress = new Progress(options.name, { verbose: options.verbose, sharesScreen: sink.isTerminal });
    try {
      const onProgress = (moved: Flow): void => progress.update(moved);
      this.#pump = new Pump({
        reactor: this.reactor,
        channel,
        name: options.name,
        flow,
        stdin: STDIN,
        sink,
        onProgress,
      });
      this.#pump.run(() => this.#signal !== undefined);
      if (this.stoppedBy !== undefined) return this.stoppedBy;
      channel.close();
      progress.finish(flow);
      return OK;
    } finally {
      progress.clear();
      this.#pump?.[Symbol.dispose]();
      this.#pump = undefined;
      sink[Symbol.dispose]();
    }
  }

  [Symbol.dispose](): void {
    this.#signals.close();
    this.reactor[Symbol.dispose]();
  }
}

/** Not a terminal, and not /dev/null. */
function mayHoldData(fd: number): boolean {
  try {
    return (fstat(borrowFd(fd)).mode & S_IFMT) !== S_IFCHR;
  } catch (error) {
    if (error instanceof SyscallError) return false; // started with stdin closed
    throw error;
  }
}
