/** `shmlink listen`: offers a name and connects who dials it to stdin and stdout. */
import { SyscallError } from "../../../ffi/mod.ts";
import type { Channel } from "../../channel/channel.ts";
import type { ListenOptions } from "../../client/broker-link.ts";
import type { Service } from "../../client/service.ts";
import { FailureError, ProtocolError, ShmlinkError } from "../../errors.ts";
import { type Command, makeCommand } from "../command.ts";
import { CopyLoop, type SessionOptions } from "../copy/session.ts";
import { DIRECTION_ARG, parseDirection } from "../direction.ts";
import { OK } from "../exit-codes.ts";
import type { LauncherState } from "../launcher.ts";
import { parseSizes } from "../numbers.ts";
import { OutlivingLink } from "../outliving.ts";
import { reportError } from "../report-error.ts";
import { parseServiceName } from "../service-name.ts";

export const command: Command = makeCommand({
  name: "listen",
  summary: "offer a name; connect who dials it to stdin and stdout",
  description: `Offers NAME and waits for one process to dial it. What that process sends goes to stdout, and what
stdin has goes to it, through shared memory: the broker only introduces the two. The end of stdin ends
our direction; the command ends when both directions have ended, with 0 if the other side finished in
order and 1 if it vanished. On a terminal the other side's end is enough, and a job in the background
does not read the terminal at all.`,
  args: {
    name: { type: "positional", required: true, description: "letters, digits and . _ : / @ -, at most 128" },
    keep: { type: "boolean", alias: "k", description: "serve one process after another, until interrupted" },
    message: { type: "boolean", alias: "m", description: "lines instead of bytes: each line is one message" },
    capacity: {
      type: "string",
      valueHint: "SIZE",
      description: "our ring, a power of two from 4K to what the broker allows, 256M unless configured (default 1M)",
    },
    "max-peer-capacity": {
      type: "string",
      valueHint: "SIZE",
      description: "largest ring of the other side, whose memory can be charged to us (default 64M)",
    },
    direction: DIRECTION_ARG,
  },
  examples: [
    ["shmlink listen files > out.tar &", 'take what "tar cf - src | shmlink dial files" sends'],
    ["shmlink listen --keep --message log", "print the lines of one process after another"],
  ],
  run: ({ name, keep, message, capacity, "max-peer-capacity": most, direction: way }, { verbose, launcher }) => {
    parseServiceName(name);
    const direction = parseDirection(way);
    const wishes = { direction, ...parseSizes(capacity, most) };
    const options = { name, messages: message === true, direction, verbose };
    using offered = new Offered(name, wishes, launcher);
    return keep === true ? serveAll(offered, options) : serveOne(offered, options);
  },
});

function serveOne(offered: Offered, options: SessionOptions): number {
  const { loop } = offered;
  const channel = offered.next();
  if (channel === undefined) return loop.stoppedBy ?? OK;
  offered.withdraw();
  const exitCode = loop.copy(channel, options);
  return exitCode === OK ? (loop.stoppedBy ?? OK) : exitCode;
}

function serveAll(offered: Offered, options: SessionOptions): number {
  const { loop } = offered;
  for (;;) {
    offered.prepare();
    const channel = offered.next();
    if (channel === undefined) return loop.stoppedBy ?? OK;
    const exitCode = survive(loop, channel, options);
    if (exitCode !== OK) return exitCode;
  }
}

/** What one peer does wrong is said, and the next one is served. */
function survive(loop: CopyLoop, channel: Channel, options: SessionOptions): number {
  try {
    return loop.copy(channel, options);
  } catch (error) {
    if (!(error instanceof FailureError || error instanceof ProtocolError)) throw error;
    reportError(error, options.verbose);
    channel.close();
    return OK;
  }
}

/** The name as it is offered, and channels as they come. The broker is watched also while one is served, so that others
 *  get theirs set up meanwhile, and that the next broker hears of the name at once. */
class Offered implements Disposable {
  readonly #name: string;
  readonly #wishes: ListenOptions;
  readonly loop: CopyLoop;
  readonly #broker: OutlivingLink;
  /** At the broker that there is, or was last. */
  #service: Service | undefined;
  /** Set up at a broker that has ended since. */
  readonly #earlier: Channel[] = [];
  /** What a later broker has refused. */
  #refusal: Error | undefined;
  readonly #owned: DisposableStack;

  constructor(name: string, wishes: ListenOptions, launcher: LauncherState) {
    [this.#name, this.#wishes] = [name, wishes];
    using owned = new DisposableStack();
    this.loop = owned.use(new CopyLoop(launcher));
    const { reactor } = this.loop;
    const purpose = `wait for "${name}" to be dialled`;
    const onBack = (): void => this.#offerAgain();
    this.#broker = owned.use(new OutlivingLink({ name: "shmlink listen", purpose, reactor, onBack }));
    this.#offer();
    this.#owned = owned.move();
  }

  #offer(): void {
    this.#service = this.#broker.ask((link) => link.listen(this.#name, this.#wishes)) ?? this.#service;
  }

  #offerAgain(): void {
    const before = this.#service;
    try {
      this.#offer();
    } catch (error) {
      if (!(error instanceof ShmlinkError || error instanceof SyscallError)) throw error;
      this.#refusal = error; // said when the one who is served has gone
    }
    if (before === undefined || before === this.#service) return;
    for (let channel = before.tryAccept(); channel !== undefined; channel = before.tryAccept())
      this.#earlier.push(channel);
    before.close();
  }

  /** Nobody can dial any more. */
  withdraw(): void {
    this.#service?.close();
    this.#broker.letGo();
  }

  /** Who dials next finds rings that are ready: nobody else is served now. */
  prepare(): void {
    this.#service?.prepare();
    this.#broker.read();
  }

  /** @returns undefined after a signal @throws FailureError "denied" when the right to the name was revoked, what a later
   *  broker refused, BrokerGone when there will be none */
  next(): Channel | undefined {
    for (;;) {
      if (this.loop.stoppedBy !== undefined) return undefined;
      const channel = this.#earlier.shift() ?? this.#service?.tryAccept();
      if (channel !== undefined) return channel;
      const failure = this.#refusal ?? this.#service?.failure;
      if (failure !== undefined) throw failure;
      this.#broker.check();
      this.loop.reactor.runOnce(-1);
    }
  }

  [Symbol.dispose](): void {
    for (const channel of this.#earlier) channel.close();
    this.#service?.close();
    this.#owned.dispose();
  }
}
