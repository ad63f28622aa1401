/** `shmlink ls`: what the broker knows. */
import { borrowFd, write } from "../../../ffi/mod.ts";
import { BrokerQuery } from "../../client/broker-query.ts";
import { FailureError } from "../../errors.ts";
import { type Command, makeCommand } from "../command.ts";
import { OK } from "../exit-codes.ts";
import { renderListing } from "../listing-text.ts";
import { printJson, printText, writeWith } from "../output.ts";
import { toListing } from "../records.ts";

const WATCH_MS = 1000;
const CLEAR_SCREEN = "\u001b[H\u001b[2J";

export const command: Command = makeCommand({
  name: "ls",
  summary: "list services, channels and wrapped listeners",
  description: `Lists what the broker knows: services (names that can be dialled), channels (who is connected to
whom, bytes sent and bytes waiting in each direction), the TCP listeners of wrapped programs with
their Unix sockets and how many connections came over each way, descriptors that are offered, and
contexts. Asking costs the peers nothing.
A broker is started if there is none.`,
  args: {
    json: { type: "boolean", description: "one JSON object; with --watch one on each line" },
    watch: { type: "boolean", alias: "w", description: "show it again every second, until interrupted" },
  },
  examples: [
    ["shmlink ls", "what there is now"],
    ["shmlink ls --json | jq -r '.listeners[] | select(.port==8123) | .path'", "the Unix socket of a wrapped server"],
  ],
  run: ({ json, watch }) => {
    writeWith((fd, bytes) => write(borrowFd(fd), bytes));
    using link = BrokerQuery.connect({ name: "shmlink ls" });
    show(link, { json: json === true, watch: watch === true });
    while (watch === true) {
      if (link.wait(() => false, WATCH_MS) === "ended") {
        throw new FailureError("gone", 'Cannot watch any longer: the broker has ended; run "shmlink ls --watch" again');
      }
      show(link, { json: json === true, watch: true });
    }
    return OK;
  },
});

function show(link: BrokerQuery, { json, watch }: { readonly json: boolean; readonly watch: boolean }): void {
  const listing = toListing(link.list());
  if (json) return printJson(listing, watch ? "line" : "indented");
  const text = renderListing(listing, process.geteuid?.() ?? 0);
  // Runtimes make process.stdout when it is first looked at, which takes longer than the whole listing.
  if (!watch) return printText(text);
  printText(process.stdout.isTTY === true ? `${CLEAR_SCREEN}${text}` : `${text}\n`);
}
