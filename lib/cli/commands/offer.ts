/** `shmlink offer`: passes descriptors on. */
import {
  type BorrowedFd,
  constants,
  getsockname,
  type OwnedFd,
  readInetAddress,
  SignalPipe,
  setNonBlocking,
} from "../../../ffi/mod.ts";
import { LimitedLog } from "../../broker/log-limit.ts";
import type { BrokerLink } from "../../client/broker-link.ts";
import { brokerGone } from "../../client/failure.ts";
import type { Offer } from "../../client/offer.ts";
import { SILENT } from "../../log.ts";
import { Reactor } from "../../transport/reactor.ts";
import { formatHost, hostPort } from "../../util/ip-address.ts";
import { type Command, makeCommand } from "../command.ts";
import { endingSignals, exitCodeOfSignal } from "../ending-signals.ts";
import { OK } from "../exit-codes.ts";
import type { LauncherState } from "../launcher.ts";
import { Accepting, type PeekKind } from "../offer/accepting.ts";
import { listenTcp, listenUnix, parseTcp, removeUnix } from "../offer/address.ts";
import { openFd } from "../open-fd.ts";
import { OutlivingLink } from "../outliving.ts";
import { printError } from "../output.ts";
import { parseServiceName } from "../service-name.ts";
import { UsageError } from "../usage-error.ts";

/** About clients that were disconnected: strangers decide how many there are. */
const DROPPED_LINES = { burst: 20, perSecond: 1 };

export const command: Command = makeCommand({
  name: "offer",
  summary: "pass descriptors on: open ones, listeners, or connections as they come",
  description: `Offers descriptors under NAME; "shmlink take" gets them. With --fd those that are open here: all of one
offer go to one taker, and the command ends when it has them; with --keep everyone gets a copy until
it is interrupted. With --tcp or --unix it listens and passes each connection on: the taker then serves
it alone, nothing is copied. With --listener the listening socket itself is passed on. With --peek the
beginning of a connection is looked at, not taken: it goes to who takes NAME/host, the host being that
of the HTTP header or of TLS's server name; who names none, or one that nobody takes, is disconnected.`,
  args: {
    name: { type: "positional", required: true, description: "letters, digits and . _ : / @ -, at most 128" },
    fd: { type: "string", valueHint: "N,...", description: "open descriptors, in this order" },
    tcp: { type: "string", valueHint: "HOST:PORT", description: "connections to this address; port 0 for any" },
    unix: { type: "string", valueHint: "PATH", description: "connections to this socket" },
    listener: { type: "boolean", description: "with --tcp or --unix: the listening socket itself" },
    peek: { type: "string", valueHint: "http|tls", description: "send each connection to the host that it names" },
    keep: {
      type: "boolean",
      alias: "k",
      description: "with --fd or --listener: a copy to everyone, until interrupted",
    },
  },
  examples: [
    ["shmlink offer log --fd=9 9>>app.log", "let another program append to our file"],
    ["shmlink offer web --tcp=127.0.0.1:8080", "each connection goes to one who takes web"],
    ["shmlink offer web --tcp=0.0.0.0:80 --peek=http", "by its Host header to who takes web/example.org"],
  ],
  run: ({ name, fd, tcp, unix, listener, peek, keep }, { launcher }) => {
    parseServiceName(name);
    const given = [fd, tcp, unix].filter((option) => option !== undefined);
    if (given.length !== 1)
      throw new UsageError("Cannot offer: exactly one of --fd=N,..., --tcp=HOST:PORT and --unix=PATH is needed");
    if (fd !== undefined && (listener === true || peek !== undefined))
      throw new UsageError("Cannot use --listener or --peek with --fd: they are about connections");
    if (listener === true && peek !== undefined)
      throw new UsageError("Cannot use --peek with --listener: whoever takes the listener accepts");
    if (fd === undefined && listener !== true && keep === true)
      throw new UsageError("Cannot use --keep with connections: each goes to one taker, nothing is copied");
    const kind = parsePeek(peek);
    const fds = fd === undefined ? [] : parseFds(fd);
    if (fd !== undefined) {
      using offering = new Offering(name, launcher);
      return offering.handOut(fds, keep === true);
    }
    using socket = tcp === undefined ? listenUnix(unix ?? "") : listenTcp(parseTcp(tcp), tcp);
    if (listener === true) setNonBlocking(socket, false); // as systemd passes them: a plain server waits in accept(2)
    using _removed = {
      [Symbol.dispose]: () => (unix === undefined || listener === true ? undefined : removeUnix(unix)),
    };
    const offered = `${listener === true ? "the listener" : "connections"} at ${unix ?? placeOf(socket)}`;
    const onOffered = (): void => printError(`shmlink: offering "${name}": ${offered}\n`);
    using offering = new Offering(name, launcher);
    return listener === true
      ? offering.handOut([socket], keep === true, onOffered)
      : offering.accept(socket, kind, onOffered);
  },
});

class Offering implements Disposable {
  readonly #name: string;
  readonly #reactor: Reactor;
  readonly #broker: OutlivingLink;
  #stoppedBy: number | undefined;
  readonly #owned: DisposableStack;

  constructor(name: string, launcher: LauncherState) {
    this.#name = name;
    using owned = new DisposableStack();
    const reactor = owned.use(new Reactor());
    this.#broker = owned.use(new OutlivingLink({ name: "shmlink offer", purpose: this.#purpose, reactor }));
    const signals = owned.use(new SignalPipe(endingSignals(launcher)));
    reactor.add(signals.fd, constants.EPOLLIN, () => {
      this.#stoppedBy ??= signals.take()[0];
    });
    this.#reactor = reactor;
    this.#owned = owned.move();
  }

  get #purpose(): string {
    return `offer "${this.#name}" any longer`;
  }

  handOut(fds: readonly BorrowedFd[], keep: boolean, onOffered?: () => void): number {
    return this.#outlive((link) => {
      const offer = link.offer(this.#name);
      offer.publish(fds, { keep });
      onOffered?.();
      return this.#run(link, offer, () => !keep && offer.taken.length > 0);
    });
  }

  accept(listener: OwnedFd, peek: PeekKind | undefined, onOffered: () => void): number {
    const log = droppedLog();
    using _told = { [Symbol.dispose]: () => log.tellLeftOut() };
    const onDropped = (why: string): void => log.warn(`disconnected a client: ${why}`);
    return this.#outlive((link) => {
      using accepting = new Accepting({ link, reactor: this.#reactor, listener, name: this.#name, peek, onDropped });
      onOffered();
      return this.#run(link, accepting, () => false);
    });
  }

  #outlive(act: (link: BrokerLink) => number): number {
    return this.#broker.outlive(act, () => this.#stoppedBy !== undefined) ?? this.#exitCode;
  }

  get #exitCode(): number {
    return this.#stoppedBy === undefined ? OK : exitCodeOfSignal(this.#stoppedBy);
  }

  /** @returns the exit code @throws BrokerGone nobody can take anything then; why it is not offered any more */
  #run(link: BrokerLink, offered: Pick<Offer, "failure">, until: () => boolean): number {
    while (!until() && this.#stoppedBy === undefined) {
      if (offered.failure !== undefined) throw offered.failure;
      if (link.ended) throw brokerGone(this.#purpose);
      this.#reactor.runOnce(-1);
    }
    return this.#exitCode;
  }

  [Symbol.dispose](): void {
    this.#owned.dispose();
  }
}

function droppedLog(): LimitedLog {
  const warn = (message: string): void => printError(`shmlink: ${message}\n`);
  return new LimitedLog({ ...SILENT, warn }, "warn", { user: DROPPED_LINES, total: DROPPED_LINES });
}

function parsePeek(text: string | undefined): PeekKind | undefined {
  if (text === undefined || text === "http" || text === "tls") return text;
  throw new UsageError(`Cannot use --peek "${text}": http or tls is wanted`);
}

function parseFds(text: string): BorrowedFd[] {
  if (!/^\d{1,7}(,\d{1,7})*$/.test(text))
    throw new UsageError(`Cannot use --fd "${text}": numbers are wanted, as in 0 or 3,4`);
  const numbers = text.split(",").map(Number);
  if (numbers.length > 28) throw new UsageError(`Cannot use --fd "${text}": 28 descriptors are the most`);
  return numbers.map((number) => openFd("fd", number));
}

function placeOf(socket: OwnedFd): string {
  const address = readInetAddress(getsockname(socket));
  if (address === undefined) return "?";
  return hostPort(formatHost(address.host), address.port);
}
