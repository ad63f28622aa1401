/** `shmlink dial`: opens a channel to a name and puts it on stdin and stdout. */
import type { Channel } from "../../channel/channel.ts";
import { BrokerLink, type DialOptions } from "../../client/broker-link.ts";
import { FailureError } from "../../errors.ts";
import { type Command, makeCommand } from "../command.ts";
import { CopyLoop } from "../copy/session.ts";
import { DIRECTION_ARG, parseDirection } from "../direction.ts";
import { parseSeconds, parseSizes } from "../numbers.ts";
import { parseServiceName } from "../service-name.ts";

const DEFAULT_WAIT = "5";

export const command: Command = makeCommand({
  name: "dial",
  summary: "open a channel to a name, on stdin and stdout",
  description: `Opens a channel to NAME. What stdin has goes to the process that listens, and what that process sends
goes to stdout. The end of stdin ends our direction; the command ends when both directions have ended,
with 0 if the other side finished in order and 1 if it vanished. On a terminal the other side's end is
enough. A name that nobody offers yet is waited for, ${DEFAULT_WAIT} seconds unless --wait says otherwise, so that
"listen" and "dial" may be started at the same time.`,
  args: {
    name: { type: "positional", required: true, description: "as the other side offers it" },
    wait: {
      type: "string",
      alias: "w",
      valueHint: "SECONDS",
      default: DEFAULT_WAIT,
      description: `how long the name may take to appear (default ${DEFAULT_WAIT}); 0 fails at once`,
    },
    message: { type: "boolean", alias: "m", description: "lines instead of bytes: each line is one message" },
    capacity: { type: "string", valueHint: "SIZE", description: "our ring, a power of two from 4K to 1G (default 1M)" },
    "max-peer-capacity": {
      type: "string",
      valueHint: "SIZE",
      description: "largest ring of the other side, whose memory can be charged to us (default 64M)",
    },
    direction: DIRECTION_ARG,
  },
  examples: [
    ["tar cf - src | shmlink dial files", 'send a file tree to "shmlink listen files > out.tar"'],
    ["shmlink dial --wait=60 log < lines.txt", "wait up to a minute for somebody to listen"],
  ],
  run: ({ name, wait, message, capacity, "max-peer-capacity": most, direction: way }, { verbose, launcher }) => {
    parseServiceName(name);
    const waitMs = parseSeconds(wait, "--wait");
    const sizes = parseSizes(capacity, most);
    const direction = parseDirection(way);
    using link = BrokerLink.connect({ name: "shmlink dial" });
    const channel = dialWaiting(link, name, { waitMs, direction, ...sizes });
    using loop = new CopyLoop(launcher);
    return loop.copy(channel, { name, messages: message === true, direction, verbose });
  },
});

/** @throws FailureError "unknown-name" when the time is over */
function dialWaiting(link: BrokerLink, name: string, options: DialOptions): Channel {
  try {
    return link.dial(name, options);
  } catch (error) {
    if (error instanceof FailureError && error.code === "unknown-name") throw unknownName(link, name, error);
    throw error;
  }
}

function unknownName(link: BrokerLink, name: string, cause: FailureError): FailureError {
  const isOffered = link.list().filter(({ kind }) => kind === "service");
  const known =
    isOffered.length === 0
      ? ""
      : `; there is ${isOffered
          .slice(0, 5)
          .map((entry) => `"${entry.name}"`)
          .join(", ")}`;
  return new FailureError(
    "unknown-name",
    `Cannot dial "${name}": nobody offers this name${known || `; run "shmlink listen ${name}"`}`,
    {
      cause,
    },
  );
}
