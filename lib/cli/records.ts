/** What `ls` and `inspect` show, as --json prints it: the broker's entries with their details spread. */
import type { Entry } from "../client/entry.ts";
import { basename } from "../util/path.ts";

export type Owner = { readonly uid: number; readonly pid: number; readonly exe: string };

/** `id`, `name` and `owner`, then what is particular to the kind. */
export type EntryRecord = { readonly id: number; readonly name: string; readonly owner: Owner } & Readonly<
  Record<string, unknown>
>;

export type Listing = {
  readonly services: readonly EntryRecord[];
  readonly channels: readonly EntryRecord[];
  readonly listeners: readonly EntryRecord[];
  readonly relayed: readonly EntryRecord[];
  readonly contexts: readonly EntryRecord[];
  readonly connections: readonly EntryRecord[];
  readonly broker: EntryRecord | null;
};

export function toRecord({ id, name, uid, pid, exe, details }: Entry): EntryRecord {
  return { id, name, owner: { uid, pid, exe }, ...details };
}

export function toListing(entries: readonly Entry[]): Listing {
  const of = (kind: Entry["kind"]): EntryRecord[] => entries.filter((entry) => entry.kind === kind).map(toRecord);
  return {
    services: of("service"),
    channels: of("channel"),
    listeners: of("listener"),
    relayed: of("relayed"),
    contexts: of("context"),
    connections: of("connection"),
    broker: of("broker")[0] ?? null,
  };
}

/** "1234 bun", and the user where it is not ours. */
export function describeOwner({ uid, pid, exe }: Owner, ownUid: number): string {
  const program = exe === "" ? "?" : basename(exe);
  return uid === ownUid ? `${pid} ${program}` : `${pid} ${program} (uid ${uid})`;
}
