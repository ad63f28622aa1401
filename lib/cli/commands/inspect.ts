/** `shmlink inspect`: one thing whole. */
import { SyscallError } from "../../../ffi/mod.ts";
import { BrokerQuery } from "../../client/broker-query.ts";
import type { Entry } from "../../client/entry.ts";
import { FailureError } from "../../errors.ts";
import { suggest } from "../../util/suggest.ts";
import { type Command, makeCommand } from "../command.ts";
import { OK } from "../exit-codes.ts";
import { printRecord } from "../output.ts";
import { renderRecord } from "../record-text.ts";
import { type EntryRecord, toRecord } from "../records.ts";
import { UsageError } from "../usage-error.ts";

export const command: Command = makeCommand({
  name: "inspect",
  summary: "show all there is to know about one of them",
  description: `Shows one service, channel, wrapped listener, offer of descriptors, context or minted connection
whole: its owner, sizes, seals, how full its rings are, bytes, messages, wake-ups sent and saved, the
policy rule that allowed it, with file and line, and by which rights: its user's or context's own, or
those of a grant. A service is shown with its channels, a listener with the processes that are
connected to it now: how many, and the newest 32. NAME is looked for as a service first, then as a
listener (tcp:ADDRESS:PORT, or its port alone), then as any other name or id of "shmlink ls".`,
  args: {
    name: { type: "positional", required: true, description: 'name or id, as in "shmlink ls"' },
    json: { type: "boolean", description: "one JSON object" },
  },
  examples: [
    ["shmlink inspect files", 'the service "files" and who is connected to it'],
    ["shmlink inspect 8123 --json", "the wrapped listener on port 8123, for a program"],
  ],
  run: async ({ name, json }) => {
    if (name === "") throw new UsageError('Cannot inspect "": a name, port or id is wanted; "shmlink ls" shows them');
    using link = BrokerQuery.connect({ name: "shmlink inspect" });
    const record = await inspect(link, name);
    printRecord(record, { json: json === true, text: () => renderRecord(record) });
    return OK;
  },
});

/** @throws FailureError "unknown-name" */
async function inspect(link: BrokerQuery, selector: string): Promise<EntryRecord & { readonly kind: Entry["kind"] }> {
  const entries = link.list(selector);
  const best = entries.find(
    (entry) => rank(entry, selector) === Math.min(...entries.map((each) => rank(each, selector))),
  );
  if (best === undefined) throw unknownName(link, selector);
  const { id, name, owner, ...details } = toRecord(best);
  const record = { kind: best.kind, id, name, owner, ...details };
  if (best.kind === "listener") return { ...record, ...(await connectedTo(best)) };
  if (best.kind !== "service") return record;
  const channels = entries.filter(({ kind, details: { service } }) => kind === "channel" && service === best.id);
  return { ...record, channels: channels.map(toRecord) };
}

/** Looked for here, with the rights of who asks: the broker knows of listeners, not of connections. */
async function connectedTo({ details: { address, port, path } }: Entry): Promise<object> {
  const { clientsOf } = await import("../../wrap/clients.ts");
  const { parseHost } = await import("../../wrap/host.ts");
  const host = parseHost(String(address));
  if (host === undefined || typeof port !== "number" || typeof path !== "string") return {};
  try {
    const { open, newest } = clientsOf(path, { domain: host.length === 4 ? 4 : 6, local: { host, port } });
    return { open, clients: newest };
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    return { open: null, clients: [] }; // a kernel that lists no sockets
  }
}

/** The most telling match first. A number is a port before it is an id. */
function rank({ kind, name, id }: Entry, selector: string): number {
  if (kind === "service" && name === selector) return 0;
  if (kind === "listener" && (name === selector || String(id) !== selector)) return 1;
  if (kind === "channel" && name === selector) return 2;
  return 3;
}

function unknownName(link: BrokerQuery, selector: string): FailureError {
  const known = link.list().filter(({ kind }) => kind !== "broker");
  const hint = suggest(
    selector,
    known.map(({ name }) => name),
  ).replace(/^: /, "; ");
  return new FailureError(
    "unknown-name",
    `Cannot inspect "${selector}": nothing has this name, port or id${hint || '; "shmlink ls" shows what there is'}`,
  );
}
