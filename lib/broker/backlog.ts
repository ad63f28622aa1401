/**
 * What may wait for a peer that does not read. Whatever others make wait for him is bounded well below what ends his session
 * (limits.maxQueuedBytes), as the backlog of a listening socket is: it is they who are refused, and he loses nothing.
 */
import { FailureError } from "../errors.ts";
import type { ServiceRecord } from "./records.ts";
import type { Session } from "./session.ts";

/** Descriptors that may wait for one connection. */
const MAX_UNREAD_FDS = 256;
/** With those that the kernel has: RLIMIT_NOFILE of the units is for all that wait in sockets that we have written to. */
const MAX_IN_FLIGHT_FDS = 448;
/** Those of channels that are announced: a channel has two on each side, and what follows is to have room in both. */
const MAX_ANNOUNCED_FDS: number = MAX_UNREAD_FDS / 2;
const MAX_ANNOUNCED_IN_FLIGHT_FDS: number = MAX_IN_FLIGHT_FDS / 2;
/** Ring and doorbell. */
const OF_A_DIAL = 2;
/** Of the bytes at which a session ends, and of those that its user may have: what he asks for himself has the rest. */
const SHARE_OF_OTHERS: number = 1 / 4;

/** Whether nothing more is to wait that he has not asked for. He may have been ended when this returns. */
export function isBehind(session: Session): boolean {
  return isTrueOfQueue(session, ({ output, core, owner }) => {
    if (output.queuedBytes === 0) return false;
    const { maxQueuedBytes } = core.config.limits;
    return (
      output.queuedFds >= MAX_ANNOUNCED_FDS ||
      output.queuedBytes > maxQueuedBytes * SHARE_OF_OTHERS ||
      core.quota.partHeld(owner, "queuedBytes") > SHARE_OF_OTHERS
    );
  });
}

/** Whether so many descriptors more have no room. He may have been ended when this returns. */
export function isFull(session: Session, nFds: number, maxInFlightFds: number = MAX_IN_FLIGHT_FDS): boolean {
  return isTrueOfQueue(session, ({ output }) => {
    const mostInFlight = maxInFlightFds - nFds;
    return output.queuedFds + nFds > MAX_UNREAD_FDS || output.unreadFds(mostInFlight) > mostInFlight;
  });
}

function hasRoomForDial(session: Session): boolean {
  return !isBehind(session) && !isFull(session, OF_A_DIAL, MAX_ANNOUNCED_IN_FLIGHT_FDS);
}

/** @param wish  behind "Cannot" */
export function unread({ output }: Session, wish: string): string {
  return `Cannot ${wish}: about ${output.unreadFds(0)} descriptors wait for this client to read them`;
}

/** What came in this turn is sent first: it waits for nobody yet. */
function isTrueOfQueue(session: Session, isTooMuch: (session: Session) => boolean): boolean {
  if (!isTooMuch(session)) return false;
  session.settle();
  return session.ended || isTooMuch(session);
}

/** @throws FailureError "quota" when either side has not read what there is already */
export function checkBacklog(dialler: Session, { session, name }: ServiceRecord): void {
  if (!hasRoomForDial(session)) {
    const { pid } = session.owner;
    const what = `about ${session.output.unreadFds(0)} descriptors and ${session.output.queuedBytes} bytes`;
    throw new FailureError(
      "quota",
      `Cannot dial "${name}": process ${pid}, which listens, does not read, and ${what} wait for it; try again, or see what keeps it`,
    );
  }
  if (!hasRoomForDial(dialler))
    throw new FailureError(
      "quota",
      `Cannot dial "${name}": about ${dialler.output.unreadFds(0)} descriptors and ${dialler.output.queuedBytes} bytes wait to be read; read them first`,
    );
}
