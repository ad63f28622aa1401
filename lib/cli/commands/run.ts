/** `shmlink run`: a program with exactly the rights that are granted to it, on an inherited descriptor. */
import { constants, SignalPipe } from "../../../ffi/mod.ts";
import { BrokerLink } from "../../client/broker-link.ts";
import { BrokerGone } from "../../client/failure.ts";
import { type GrantSpec, type Minted, RIGHTS, type RightName } from "../../client/grant.ts";
import { Reactor } from "../../transport/reactor.ts";
import { isGrantPattern, MAX_GRANTS } from "../../util/grant-pattern.ts";
import { suggest } from "../../util/suggest.ts";
import { Children, startChild } from "../child.ts";
import { type Command, makeCommand } from "../command.ts";
import { endingSignals } from "../ending-signals.ts";
import { reportError } from "../report-error.ts";
import { UsageError } from "../usage-error.ts";

const { SIGCHLD, SIGINT, SIGUSR1 } = constants;
/** The program finds its connection here. */
const FD = 3;

export const command: Command = makeCommand({
  name: "run",
  summary: "run a program with exactly the rights that are granted to it",
  description: `Runs PROGRAM with a connection of its own to the broker on descriptor ${FD} (SHMLINK_FD), which can do what
--grant says and nothing else; nothing of it is in the file system. --grant=RIGHTS:NAME may be given
several times: rights are dial, listen, send, receive, inspect, offer, take and delegate, with commas,
and NAME may have * and ?. Without send and receive channels have both directions. With "delegate" the
program can pass the same rights on, or fewer, never more; "shmlink run" within it does so. One program
uses the connection: the first that connects; what that one starts finds SHMLINK_FD=used. This does not
keep a program from other sockets of the same user: a sandbox does.

SIGUSR1 takes all of it away while PROGRAM runs; the program is told, and runs on. SIGTERM and SIGHUP
are passed on, and when PROGRAM has ended after one of them, what it has left running has no rights any
more. When it ends by itself, what it has left running keeps them, and nobody can take them away.`,
  takesProgram: true,
  args: {
    grant: {
      type: "string",
      alias: "g",
      valueHint: "RIGHTS:NAME",
      description: "what PROGRAM may do; as often as needed",
    },
  },
  examples: [
    ["shmlink run --grant=dial:db -- shmlink dial db", "a program that can dial db and nothing else"],
    ["shmlink run --grant=dial,send:log -- worker", "what it can do is send to log: nothing can come back"],
    ["shmlink run --grant=dial:db --grant=listen,delegate:web/* -- server", "two grants, one of which it may pass on"],
  ],
  run: (_args, { program, options, launcher, verbose }) => {
    if (program.length === 0) throw new UsageError('Missing program: write "shmlink run --grant=… -- PROGRAM"');
    const prefix = "--grant=";
    const given = options.filter((option) => option.startsWith(prefix)).map((option) => option.slice(prefix.length));
    const grants = given.flatMap(parseGrants);
    if (grants.length > MAX_GRANTS)
      throw new UsageError(`Cannot use ${grants.length} grants: ${MAX_GRANTS} is the most for one connection`);
    using link = BrokerLink.connect({ name: "shmlink run", reconnect: false });
    using minted = link.mint(grants);
    const { SHMLINK_SOCKET: _, ...env } = process.env;
    using signals = new SignalPipe([SIGCHLD, SIGUSR1, ...endingSignals(launcher)]);
    using reactor = new Reactor();
    const children = new Children();
    let isToldToEnd = false;
    const takeSignals = (started?: number): void => {
      for (const signal of signals.take()) {
        if (signal === SIGCHLD) children.reap();
        else if (signal === SIGUSR1) revoke(minted, verbose);
        else {
          children.passOn(signal, started);
          isToldToEnd ||= signal !== SIGINT;
        }
      }
    };
    reactor.add(signals.fd, constants.EPOLLIN, () => takeSignals());
    const pid = startChild({ argv: program, env: { ...env, SHMLINK_FD: String(FD) }, fds: [minted.fd], launcher });
    children.add(pid);
    takeSignals(pid); // those that came before it was there
    minted.fd.close(); // the program's alone: when it ends, so does the connection
    while (children.size > 0) reactor.runOnce(-1);
    if (isToldToEnd) revoke(minted, verbose);
    return children.lastExitCode;
  },
});

/** All of it, also from those to whom it was passed on. The program is not left behind, whatever comes of it. */
function revoke(minted: Minted, verbose: boolean): void {
  try {
    minted.revoke();
  } catch (error) {
    if (!(error instanceof BrokerGone)) reportError(error, verbose); // with a broker that has ended every grant has
  }
}

/** "dial:db listen,delegate:web/*". @throws UsageError */
export function parseGrants(text: string): GrantSpec[] {
  return text.split(/\s+/).filter(Boolean).map(parseGrant);
}

function parseGrant(text: string): GrantSpec {
  const colon = text.indexOf(":");
  const name = text.slice(colon + 1);
  if (colon < 1 || !isGrantPattern(name))
    throw new UsageError(`Invalid --grant "${text}": RIGHTS:NAME is wanted, as in dial:db or listen,offer:web/*`);
  const rights = text.slice(0, colon).split(",").map(parseRight);
  if (rights.every((right) => right === "delegate"))
    throw new UsageError(
      `Invalid --grant "${text}": delegate stands beside what may be passed on, as in dial,delegate:${name}`,
    );
  return { rights, name };
}

function parseRight(text: string): RightName {
  const right = RIGHTS.find((each) => each === text);
  if (right !== undefined) return right;
  throw new UsageError(`Invalid right "${text}": one of ${RIGHTS.join(", ")} is wanted${suggest(text, RIGHTS)}`);
}
