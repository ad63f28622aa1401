/** What a side of a channel costs its user, and the spare ring that it may have: taken before anything is made. */
import { ringFileBytes } from "../ring/layout.ts";
import type { ObjectId } from "../util/brand.ts";
import { type BrokerCore, chargeQuota, wishOf } from "./core.ts";
import { accountKey, type Charge } from "./quota.ts";
import type { Owner } from "./records.ts";
import type { Session } from "./session.ts";
import type { Spare } from "./spares.ts";

type Asking = { readonly session: Session; readonly object: ObjectId };

export type SidePlan = Asking & { readonly capacity: number; readonly spare: Spare | undefined };

type Wanted = {
  readonly capacity: number;
  /** The service that is dialled. */
  readonly name: string;
  /** Whether both clients know of rings that were made before: their headers name no channel. */
  readonly isNew: boolean;
};

/** Charges for a side, and takes the spare ring that it has, whose bytes are charged already. */
export function plan(core: BrokerCore, { session, object }: Asking, { capacity, name, isNew }: Wanted): SidePlan {
  const spare = isNew ? session.spares.take(capacity) : undefined;
  try {
    chargeSide(core, session.owner, name, spare === undefined ? chargeFor(capacity) : CHARGE_WITH_SPARE);
  } catch (error) {
    if (spare !== undefined) session.spares.putBack(spare);
    throw error;
  }
  return { session, object, capacity, spare };
}

/** One descriptor each: its file, until the other side has it. */
const CHARGE_WITH_SPARE: Charge = { channels: 1, fds: 1 };

function chargeFor(capacity: number): Charge {
  return { channels: 1, fds: 1, sharedBytes: ringFileBytes(capacity) };
}

/** For a channel that came to nothing. */
export function giveBack(core: BrokerCore, { session, capacity, spare }: SidePlan): void {
  core.quota.release(session.owner, spare === undefined ? chargeFor(capacity) : CHARGE_WITH_SPARE);
  if (spare !== undefined) session.spares.putBack(spare);
}

/** @throws FailureError "quota" when there is no room even without the rings that this user only keeps ready */
function chargeSide(core: BrokerCore, owner: Owner, name: string, charge: Charge): void {
  if (core.quota.charge(owner, charge) === undefined) return;
  const key = accountKey(owner);
  if (charge.sharedBytes !== undefined)
    for (const session of core.sessions()) if (accountKey(session.owner) === key) session.spares.giveWay();
  chargeQuota(core, owner, wishOf("dial", name), charge);
}
