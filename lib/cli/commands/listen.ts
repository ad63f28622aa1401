/** `shmlink listen`: offers a name and connects who dials it to stdin and stdout. */
import { constants, SyscallError } from "../../../ffi/mod.ts";
import type { Channel } from "../../channel/channel.ts";
import { BrokerLink, type ListenOptions } from "../../client/broker-link.ts";
import { isHandedDown } from "../../client/connect.ts";
import { brokerGone } from "../../client/failure.ts";
import type { Service } from "../../client/service.ts";
import { FailureError, ProtocolError, ShmlinkError } from "../../errors.ts";
import type { Registration } from "../../transport/reactor.ts";
import { type Command, makeCommand } from "../command.ts";
import { CopyLoop, type SessionOptions } from "../copy/session.ts";
import { DIRECTION_ARG, parseDirection } from "../direction.ts";
import { OK } from "../exit-codes.ts";
import type { LauncherState } from "../launcher.ts";
import { parseSizes } from "../numbers.ts";
import { outliving, sayGoingOn } from "../outliving.ts";
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
    const make = (): Offered => new Offered(name, wishes, launcher);
    const options = { name, messages: message === true, verbose };
    return outliving(make, (offered) => (keep === true ? serveAll(offered, options) : serveOne(offered, options)));
  },
});

/** @throws BrokerGone before somebody has dialled */
function serveOne(offered: Offered, options: SessionOptions): number {
  const { loop } = offered;
  const channel = offered.next();
  if (channel === undefined) return loop.stoppedBy ?? OK;
  offered.withdraw();
  const exitCode = loop.copy(channel, options);
  return exitCode === OK ? (loop.stoppedBy ?? OK) : exitCode;
}

/** @throws BrokerGone while nobody is served */
function serveAll(offered: Offered, options: SessionOptions): number {
  const { loop } = offered;
  for (;;) {
    offered.prepare();
    const channel = offered.next();
    if (channel === undefined) return loop.stoppedBy ?? OK;
    const exitCode = offered.stays(() => survive(loop, channel, options));
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
 *  get theirs set up meanwhile. */
class Offered implements Disposable {
  readonly #name: string;
  readonly #wishes: ListenOptions;
  readonly loop: CopyLoop;
  #at: Place;
  /** Set up at a broker that has ended since. */
  readonly #earlier: Channel[] = [];
  #brokerEnded = false;
  #stays = false;

  constructor(name: string, wishes: ListenOptions, launcher: LauncherState) {
    [this.#name, this.#wishes] = [name, wishes];
    this.loop = new CopyLoop(launcher);
    try {
      this.#at = this.#offer();
    } catch (error) {
      this.loop[Symbol.dispose]();
      throw error;
    }
  }

  #offer(): Place {
    const link = BrokerLink.connect({ name: "shmlink listen", reconnect: false });
    try {
      const service = link.listen(this.#name, this.#wishes);
      return { link, service, watch: this.loop.reactor.add(link.fd, constants.EPOLLIN, () => this.#dispatch()) };
    } catch (error) {
      link.close();
      throw error;
    }
  }

  /** Hears what the broker said, and says what is to be said. */
  #dispatch(): void {
    const { link, watch } = this.#at;
    if (this.#brokerEnded || link.dispatch() === "open") return;
    watch.remove();
    this.#brokerEnded = !this.#stays || !this.#offerAgain();
  }

  /** To the next broker, while somebody is served who does not notice. @returns false when that has to wait */
  #offerAgain(): boolean {
    const { link, service } = this.#at;
    try {
      this.#at = this.#offer();
    } catch (error) {
      if (error instanceof ShmlinkError || error instanceof SyscallError) return false; // said when that one has gone
      throw error;
    }
    for (let channel = service.tryAccept(); channel !== undefined; channel = service.tryAccept())
      this.#earlier.push(channel);
    service.close();
    link.close();
    sayGoingOn();
    return true;
  }

  /** Nobody can dial any more. */
  withdraw(): void {
    this.#at.service.close();
  }

  /** Who dials next finds rings that are ready: nobody else is served now. */
  prepare(): void {
    this.#at.service.prepare();
    this.#dispatch();
  }

  /** @param serve  during which the name is offered to the next broker if this one ends */
  stays<T>(serve: () => T): T {
    this.#stays = !isHandedDown();
    try {
      return serve();
    } finally {
      this.#stays = false;
    }
  }

  /** @returns undefined after a signal @throws BrokerGone nobody can find us then, FailureError "denied" when the right
   *  to the name was revoked */
  next(): Channel | undefined {
    for (;;) {
      if (this.loop.stoppedBy !== undefined) return undefined;
      const { service } = this.#at;
      const channel = this.#earlier.shift() ?? service.tryAccept();
      if (channel !== undefined) return channel;
      if (service.failure !== undefined) throw service.failure;
      if (this.#brokerEnded) throw brokerGone(`wait for "${this.#name}" to be dialled`);
      this.loop.reactor.runOnce(-1);
    }
  }

  [Symbol.dispose](): void {
    for (const channel of this.#earlier) channel.close();
    this.loop[Symbol.dispose]();
    this.#at.service.close();
    this.#at.link.close();
  }
}

/** At one broker. */
type Place = { readonly link: BrokerLink; readonly service: Service; readonly watch: Registration };
