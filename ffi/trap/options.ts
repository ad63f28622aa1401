/** Socket options as machine code compares and sets them: struct check of machine/trap-state.h. */
import type { NativeMemory } from "../memory.ts";

export type OptionCheck = { readonly level: number; readonly name: number; readonly value: Uint8Array };

const [CHECK_BYTES, VALUE] = [32, 16];
/** The longest value that there is room for. */
export const MAX_VALUE_BYTES: number = CHECK_BYTES - VALUE;

/** Longer values are cut. */
export function writeChecks({ data, bytes }: NativeMemory, start: number, checks: readonly OptionCheck[]): void {
  for (const [index, { level, name, value }] of checks.entries()) {
    const at = start + index * CHECK_BYTES;
    for (const [field, number] of [level, name, value.length].entries()) data.setInt32(at + field * 4, number, true);
    bytes.set(value.subarray(0, MAX_VALUE_BYTES), at + VALUE);
  }
}
