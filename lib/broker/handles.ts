/** What the objects of a session stand for, and letting go of it. */
import { dropSide } from "./channel-end.ts";
import type { BrokerCore } from "./core.ts";
import type { GrantSet } from "./grants.ts";
import { removeListener } from "./handlers/listener.ts";
import { removeService } from "./handlers/service.ts";
import { removeOffer, removeTaker } from "./offers.ts";
import type { ChannelRecord, ListenerRecord, OfferRecord, ServiceRecord, TakeRecord } from "./records.ts";

export type Handle =
  | ServiceRecord
  | ListenerRecord
  | OfferRecord
  | TakeRecord
  | { readonly kind: "grant"; readonly grants: GrantSet; state: "new" | "refused" | "connected" }
  | { readonly kind: "side"; readonly channel: ChannelRecord; readonly side: 0 | 1 };

export function letGo(core: BrokerCore, handle: Handle): void {
  if (handle.kind === "service") removeService(core, handle);
  else if (handle.kind === "listener") removeListener(core, handle);
  else if (handle.kind === "relayed") removeOffer(core, handle);
  else if (handle.kind === "grant")
    return; // what was granted stays granted
  else if (handle.kind === "take") removeTaker(core, handle);
  else dropSide(core, handle.channel, handle.side);
}
