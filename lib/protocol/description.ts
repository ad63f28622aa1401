/** What the generated tables say of an interface: enough to read and write its messages, nothing about behaviour. */
import type { ArgSpec } from "../wire/types.ts";

/** `name` is the key in the typed message; a list of these is a wire Signature as well. */
export type ArgDescription = ArgSpec & {
  readonly name: string;
  /** Interface of a new_id or object argument, where the XML names one. */
  readonly interface?: string;
};

export type MessageDescription = {
  /** As in the XML, and `kind` in the typed message. Its index in the list is the opcode. */
  readonly name: string;
  /** The object is gone after this message. */
  readonly destructor: boolean;
  /** First version of the interface that has it. */
  readonly since: number;
  readonly args: readonly ArgDescription[];
  /** Arguments in the order of the wire, to the typed message. */
  readonly toTyped: (args: readonly RawArg[]) => { readonly kind: string };
  /** The typed message, whose fields are those of its type, to arguments in the order of the wire. */
  readonly toArgs: (message: Readonly<Record<string, unknown>>) => readonly unknown[];
};

/** What the tables see of an argument. */
type RawArg = { readonly value: unknown; readonly interface?: string; readonly version?: number };

export type InterfaceDescription = {
  readonly name: string;
  readonly version: number;
  readonly requests: readonly MessageDescription[];
  readonly events: readonly MessageDescription[];
};
