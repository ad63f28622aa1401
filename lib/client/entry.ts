/** An entry of a listing as a typed record. */
import type { Events } from "../protocol/shmlink-v1.gen.ts";

export type EntryKind = "service" | "channel" | "listener" | "relayed" | "context" | "broker" | "connection";

/** One thing the broker knows. `details` is what is particular to its kind. */
export type Entry = {
  readonly kind: EntryKind;
  readonly id: number;
  readonly name: string;
  readonly uid: number;
  readonly pid: number;
  readonly exe: string;
  readonly details: Readonly<Record<string, unknown>>;
};

const KINDS: readonly EntryKind[] = ["service", "channel", "listener", "relayed", "context", "broker", "connection"];

type WireEntry = Extract<Events<never>["shmlink_listing_v1"], { kind: "entry" }>;

/** A kind or details from a newer broker are kept as far as they are understood. */
export function entryOf(event: WireEntry): Entry {
  const { entryKind, entryId: id, name, uid, pid, exe } = event;
  return { kind: KINDS[entryKind] ?? "context", id, name, uid, pid, exe, details: parseDetails(event.details) };
}

function parseDetails(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
