/** Work that one request can ask for in any amount: as much of it as nobody notices at once, the rest in the turns of those
 *  who flood. */
import type { FloodTurns } from "./flood-turns.ts";
import type { Owner } from "./records.ts";

const AT_ONCE_MS = 1;

/** Calls `act` for each, in order. @param who  whose time it is @param done  called after the last one */
export function eachInTurns<T>(
  { floodTurns }: { readonly floodTurns: Pick<FloodTurns, "shareOf" | "await"> },
  who: Owner,
  all: readonly T[],
  { act, done = () => undefined }: { readonly act: (one: T) => void; readonly done?: () => void },
): void {
  const share = floodTurns.shareOf(who);
  let index = 0;
  const takeTurn = (): void => {
    const untilMs = performance.now() + AT_ONCE_MS;
    while (index < all.length) {
      if (performance.now() >= untilMs) return floodTurns.await(share, takeTurn);
      act(all[index++] as T); // below its length
    }
    done();
  };
  takeTurn();
}
