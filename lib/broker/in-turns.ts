/** Work that one request can ask for in any amount: as much of it as nobody notices at once, the rest in the turns of those
 *  who flood. */
import type { Share } from "./flood-share.ts";
import type { FloodTurns } from "./flood-turns.ts";
import type { Owner } from "./records.ts";

const AT_ONCE_MS = 1;

/** Calls `act` for each, in order, until one says "enough"; for the first of them at once, however late it is.
 *  @param who  whose time it is @param all  asked for the next one as it goes @param done  called after the last one */
export function eachInTurns<T>(
  { floodTurns }: { readonly floodTurns: Pick<FloodTurns, "shareOf" | "await"> },
  who: Owner,
  all: Iterable<T>,
  { act, done = () => undefined }: { readonly act: (one: T) => unknown; readonly done?: () => void },
): void {
  let share: Share | undefined; // mostly there is no need of one
  const iterator = all[Symbol.iterator]();
  let next = iterator.next();
  const takeTurn = (): void => {
    const untilMs = performance.now() + AT_ONCE_MS;
    while (next.done !== true) {
      if (act(next.value) === "enough") break;
      next = iterator.next();
      if (next.done === true || performance.now() < untilMs) continue;
      share ??= floodTurns.shareOf(who);
      return floodTurns.await(share, takeTurn);
    }
    done();
  };
  takeTurn();
}
