/** `shmlink listen`: offers a name and connects who dials it to stdin and stdout. */
import { constants } from "../../../ffi/mod.ts";
import type { Channel } from "../../channel/channel.ts";
import { BrokerLink, type ListenOptions } from "../../client/broker-link.ts";
import { brokerGone } from "../../client/failure.ts";
import type { Service } from "../../client/service.ts";
import { FailureError, ProtocolError } from "../../errors.ts";
import type { Registration } from "../../transport/reactor.ts";
import { type Command, makeCommand } from "../command.ts";
import { CopyLoop, type SessionOptions } from "../copy/session.ts";
import { DIRECTION_ARG, parseDirection } from "../direction.ts";
import { OK } from "../exit-codes.ts";
import type { LauncherState } from "../launcher.ts";
import { parseSizes } from "../numbers.ts";
import { outliving } from "../outliving.ts";
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

/** The name as it is offered to one broker. */
class Offered implements Disposable {
  readonly #link: BrokerLink = BrokerLink.connect({ name: "shmlink listen", reconnect: false });
  readonly service: Service;
  readonly loop: CopyLoop;
  readonly waiting: Waiting;

  constructor(name: string, wishes: ListenOptions, launcher: LauncherState) {
    this.service = this.#link.listen(name, wishes);
    this.loop = new CopyLoop(launcher);
    this.waiting = new Waiting(this.#link, this.service, this.loop);
  }

  [Symbol.dispose](): void {
    this.loop[Symbol.dispose]();
    this.service.close();
    this.#link.close();
  }
}

/** @throws BrokerGone before somebody has dialled */
function serveOne({ service, waiting, loop }: Offered, options: SessionOptions): number {
  const channel = waiting.next();
  if (channel === undefined) return loop.stoppedBy ?? OK;
  service.close();
  const exitCode = loop.copy(channel, options);
  return exitCode === OK ? (loop.stoppedBy ?? OK) : exitCode;
}

/** @throws BrokerGone */
function serveAll({ waiting, loop }: Offered, options: SessionOptions): number {
  for (;;) {
    waiting.prepare();
    const channel = waiting.next();
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

/** Channels as they come. The link is watched also while one is served, so that others get theirs set up meanwhile. */
class Waiting {
  readonly #link: BrokerLink;
  readonly #service: Service;
  readonly #loop: CopyLoop;
  readonly #registration: Registration;
  #brokerEnded = false;

  constructor(link: BrokerLink, service: Service, loop: CopyLoop) {
    this.#link = link;
    this.#service = service;
    this.#loop = loop;
    this.#registration = loop.reactor.add(link.fd, constants.EPOLLIN, () => this.#dispatch());
  }

  /** Hears what the broker said, and says what is to be said. */
  #dispatch(): void {
    if (this.#brokerEnded || this.#link.dispatch() === "open") return;
    this.#brokerEnded = true;
    this.#registration.remove();
  }

  /** Who dials next finds rings that are ready: nobody else is served now. */
  prepare(): void {
    this.#service.prepare();
    this.#dispatch();
  }

  /** @returns undefined after a signal @throws BrokerGone nobody can find us then, FailureError "denied" when the right
   *  to the name was revoked */
  next(): Channel | undefined {
    for (;;) {
      if (this.#loop.stoppedBy !== undefined) return undefined;
      const channel = this.#service.tryAccept();
      if (channel !== undefined) return channel;
      if (this.#service.failure !== undefined) throw this.#service.failure;
      if (this.#brokerEnded) throw brokerGone(`wait for "${this.#service.name}" to be dialled`);
      this.#loop.reactor.runOnce(-1);
    }
  }
}
