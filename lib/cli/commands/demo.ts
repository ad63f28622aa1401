/** `shmlink demo`: all of it on real data. What `npm start` runs. */
import { type Command, makeCommand } from "../command.ts";
import { answer, ask } from "../demo/echo.ts";
import { receive, transmit } from "../demo/relay.ts";
import { OK, SIGNAL_BASE } from "../exit-codes.ts";
import { printError } from "../output.ts";
import { missingOption, UsageError } from "../usage-error.ts";

const ROLES: ReadonlyMap<string, (where: string) => void> = new Map([
  ["receive", receive],
  ["send", transmit],
  ["answer", answer],
  ["ask", ask],
]);
const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;

export const command: Command = makeCommand({
  name: "demo",
  summary: "show all of it on real data, in under a minute",
  description: `Starts a broker of its own in a temporary folder, sends a file tree through a channel, a Unix socket and
loopback TCP and compares the three, asks and answers over each of them, fetches a page from an
unmodified HTTP server under wrap, and takes everything away again. Needs tar, and python3 and curl or
node.`,
  args: {
    relay: {
      type: "string",
      valueHint: "ROLE",
      description: "be one end of a comparison: receive or send, answer or ask",
    },
    at: { type: "string", valueHint: "WHERE", description: "with --relay: a socket path, a TCP port, or channel:NAME" },
  },
  examples: [["shmlink demo", "the same as npm start in a checkout"]],
  run: async ({ relay: role, at }) => {
    if (role === undefined) return await demonstrate();
    if (at === undefined)
      throw missingOption("demo --relay", "--at=WHERE", "a socket path, a TCP port, or channel:NAME");
    const end = ROLES.get(role);
    if (end === undefined)
      throw new UsageError(`Cannot use --relay "${role}": one of ${[...ROLES.keys()].join(", ")} is wanted`);
    end(at);
    return OK;
  },
});

async function demonstrate(): Promise<number> {
  const [{ Workspace }, { showAll }] = await Promise.all([import("../demo/workspace.ts"), import("../demo/show.ts")]);
  const interrupted = interruption(); // before there is anything to take away
  const workspace = new Workspace();
  const shown = showAll(workspace).then(() => OK);
  shown.catch(() => undefined); // after an interruption nobody waits for it
  try {
    return await Promise.race([shown, interrupted]);
  } finally {
    await workspace.close();
  }
}

/** The exit code for the first signal that asks to end. From its return on, none ends us by itself. */
function interruption(): Promise<number> {
  return new Promise((resolve) => {
    for (const [name, number] of Object.entries(SIGNALS)) {
      process.on(name, () => {
        if (process.stderr.isTTY === true) printError("\n"); // after a line of progress
        resolve(SIGNAL_BASE + number);
      });
    }
  });
}
