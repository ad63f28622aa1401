/** Typed messages to raw ones and back, by the generated tables. Knows no object map and sends nothing. */
import type { OwnedFd } from "../../ffi/mod.ts";
import type { ObjectId } from "../util/brand.ts";
import type { Arg, RawMessage } from "../wire/types.ts";
import type { MessageDescription } from "./description.ts";
import type { Events, InterfaceName, Requests } from "./shmlink-v1.gen.ts";

/** A request with the object it was sent to, over all interfaces: switch on `interface`, then on `request.kind`. */
export type AnyRequest<Fd> = {
  [N in InterfaceName]: { readonly object: ObjectId; readonly interface: N; readonly request: Requests<Fd>[N] };
}[InterfaceName];

/** An event with the object it came from, over all interfaces. */
export type AnyEvent<Fd> = {
  [N in InterfaceName]: { readonly object: ObjectId; readonly interface: N; readonly event: Events<Fd>[N] };
}[InterfaceName];

/** What every typed message has. */
export type TypedMessage = { readonly kind: string };

/** The fields of a message by their names in the XML, and its kind. */
export function toTyped<Fd>(description: MessageDescription, args: readonly Arg<Fd>[]): TypedMessage {
  return description.toTyped(args);
}

/** A message's arguments in the order of the wire. */
export function toArgs<Fd>(description: MessageDescription, message: TypedMessage): readonly Arg<Fd>[] {
  // Its own type is made from the same XML, and the compiler checked the fields where they were written.
  return description.toArgs(message as unknown as Readonly<Record<string, unknown>>) as readonly Arg<Fd>[];
}

/** Of each table: asked for with every message. */
const OPCODES: WeakMap<readonly MessageDescription[], ReadonlyMap<string, number>> = new WeakMap();

/** The opcode of `kind`, which is its place in the table. @throws TypeError for a kind that is not in it */
export function opcodeOf(messages: readonly MessageDescription[], kind: string): number {
  let opcodes = OPCODES.get(messages);
  if (opcodes === undefined) {
    opcodes = new Map(messages.map(({ name }, opcode) => [name, opcode]));
    OPCODES.set(messages, opcodes);
  }
  const opcode = opcodes.get(kind);
  if (opcode === undefined) throw new TypeError(`Cannot send "${kind}": the interface has no such message`);
  return opcode;
}

/** Closes the descriptors in a message that nobody took over; those that were taken are not touched. */
export function closeFds({ args }: Pick<RawMessage<OwnedFd>, "args">): void {
  for (const arg of args) if (arg.kind === "fd") arg.value.close();
}
