/** Two rings of the same contents: at one TypeScript works, at the other machine code. What they do must not differ. */
import { RecordPath } from "../../../ffi/mod.ts";
import { type RingPair, ringPair } from "./pair.ts";

/** @returns the two, and how often the machine code was called */
export function twins(
  capacity: number,
  position: number,
): { readonly rings: readonly [RingPair, RingPair]; calls(): number } {
  let calls = 0;
  const fast = ringPair(capacity, position, (own, peer) => {
    const path = RecordPath.open(own, peer);
    if (path === undefined) throw new Error("Cannot test machine code: the system does not allow it");
    return new Proxy(path, {
      get: (target, key) => {
        const value: unknown = Reflect.get(target, key, target);
        if (typeof value !== "function") return value;
        calls++;
        return (...args: unknown[]): unknown => (value as (...args: unknown[]) => unknown).apply(target, args);
      },
    });
  });
  return { rings: [ringPair(capacity, position), fast], calls: () => calls };
}
