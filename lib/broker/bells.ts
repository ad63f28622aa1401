/**
 * The two ends of a doorbell, between their making and the moment when each has been given away. Whoever has one end can
 * send the other one something, while we still hold it, and closing that can take as long as he likes.
 */
import { closeNow, constants, OwnedFd, socketpair } from "../../ffi/mod.ts";
import type { Closer } from "./closer.ts";
import type { Owner } from "./records.ts";
import type { Session } from "./session.ts";

type Holder = { readonly session: Session };

/** What lies in the queue of an end comes from who has the other one: it is closed in his name, however long it has waited for
 *  its reader.
 *
 *  An end is closed as soon as it is sent. So as long as the other one is still ours nobody can have put anything in its
 *  queue, unless both go in one piece: it is closed where we stand. The second one is closed with others, a little later.
 *  @throws SyscallError */
export function makeBells(closer: Pick<Closer, "closingLaterFor">, near: Holder, far: Holder): [OwnedFd, OwnedFd] {
  let isOneGone = near.session === far.session;
  const guard = (fd: OwnedFd, owner: Owner): OwnedFd => {
    const closeLater = closer.closingLaterFor(owner);
    return new OwnedFd(fd.take(), (number) => {
      if (isOneGone) return closeLater(number);
      isOneGone = true;
      closeNow(number);
    });
  };
  const [one, other] = socketpair(constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
  return [guard(one, far.session.owner), guard(other, near.session.owner)];
}
