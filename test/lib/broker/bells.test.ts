/** Ends of doorbells: the first that goes is closed where we stand, the second elsewhere, and both elsewhere where they go
 *  in one piece. */
import { expect, test } from "bun:test";
import { closeNow } from "../../../ffi/mod.ts";
import { makeBells } from "../../../lib/broker/bells.ts";
import type { Closer } from "../../../lib/broker/closer.ts";
import type { Session } from "../../../lib/broker/session.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";

expectNoFdLeaks();

/** Closes at once, and notes for whom. */
class NotingCloser implements Pick<Closer, "closingLaterFor"> {
  readonly closed: number[] = [];

  closingLaterFor({ uid }: { readonly uid: number }): (number: number) => void {
    return (number) => {
      this.closed.push(uid);
      closeNow(number);
    };
  }
}

function holder(uid: number): { readonly session: Session } {
  const owner = { pid: 1, uid, gid: uid, groups: [], exe: "", cgroup: "", context: undefined };
  return { session: { owner } as unknown as Session }; // of a session only its owner is looked at
}

test("the first end that is given away is closed where we stand, whichever it is, and the second elsewhere, in the name of who has the first", () => {
  for (const order of [
    [0, 1],
    [1, 0],
  ] as const) {
    const closer = new NotingCloser();
    const bells = makeBells(closer, holder(1000), holder(1001));
    bells[order[0]].close();
    expect(closer.closed).toEqual([]);
    bells[order[1]].close();
    expect(closer.closed).toEqual([1000 + order[0]]); // who could have put something in its queue
  }
});

test("ends that go to the same connection are both closed elsewhere", () => {
  const closer = new NotingCloser();
  const both = holder(1000);
  for (const bell of makeBells(closer, both, both)) bell.close();
  expect(closer.closed).toEqual([1000, 1000]);
});
