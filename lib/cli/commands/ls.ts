/** `shmlink ls`: what the broker knows. */
import { borrowFd, write } from "../../../ffi/mod.ts";
import { BrokerQuery } from "../../client/broker-query.ts";
import { isHandedDown } from "../../client/connect.ts";
import { BrokerGone, brokerGone } from "../../client/failure.ts";
import { FailureError } from "../../errors.ts";
import { type Command, makeCommand } from "../command.ts";
import { OK } from "../exit-codes.ts";
import { renderListing } from "../listing-text.ts";
import { printError, printJson, printText, writeWith } from "../output.ts";
import { toListing } from "../records.ts";

const NAME = "shmlink ls";
const WATCH_MS = 1000;
const CLEAR_SCREEN = "\u001b[H\u001b[2J";

export const command: Command = makeCommand({
  name: "ls",
  summary: "list services, channels and wrapped listeners",
  description: `Lists what the broker knows: services (names that can be dialled), channels (who is connected to
whom, bytes sent and bytes waiting in each direction), the TCP listeners of wrapped programs with
their Unix sockets and how many connections came over each way, descriptors that are offered,
contexts, and connections that were minted ("shmlink run --grant"). Asking costs the peers nothing.
A broker is started if there is none; with --watch, one that ends is waited for.`,
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
    using link = BrokerQuery.connect({ name: NAME });
    if (watch === true) return keepShowing(link, json === true);
    show(link, { json: json === true, watch: false });
    return OK;
  },
});

/** What there is at one broker after the other. None is started for it: what stays starts the next one, and as long as
 *  nobody does there is nothing to be listed. */
function keepShowing(first: BrokerQuery, json: boolean): never {
  showUntilEnded(first, json);
  for (;;) {
    if (isHandedDown()) throw brokerGone("watch any longer");
    printError("shmlink: the broker has ended; waiting for the next one\n");
    using next = waitForBroker();
    showUntilEnded(next, json);
  }
}

function showUntilEnded(link: BrokerQuery, json: boolean): void {
  try {
    do show(link, { json, watch: true });
    while (link.wait(() => false, WATCH_MS) !== "ended");
  } catch (error) {
    if (!(error instanceof BrokerGone)) throw error;
  }
}

/** @throws ProtocolError when it does not let us in */
function waitForBroker(): BrokerQuery {
  for (;;) {
    try {
      return BrokerQuery.connect({ name: NAME, start: false });
    } catch (error) {
      if (!(error instanceof FailureError)) throw error;
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, WATCH_MS);
  }
}

function show(link: BrokerQuery, { json, watch }: { readonly json: boolean; readonly watch: boolean }): void {
  const listing = toListing(link.list());
  if (json) return printJson(listing, watch ? "line" : "indented");
  const text = renderListing(listing, process.geteuid?.() ?? 0);
  // Runtimes make process.stdout when it is first looked at, which takes longer than the whole listing.
  if (!watch) return printText(text);
  printText(process.stdout.isTTY === true ? `${CLEAR_SCREEN}${text}` : `${text}\n`);
}
