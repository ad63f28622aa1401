/** Which file answers which request. */
import type { OwnedFd } from "../../ffi/mod.ts";
import { ProtocolError } from "../errors.ts";
import type { AnyRequest } from "../protocol/connection.ts";
import { assertNever } from "../util/assert-never.ts";
import { handleChannel } from "./handlers/channel.ts";
import { handleDisplay } from "./handlers/display.ts";
import { handleGrant } from "./handlers/grant.ts";
import { handleManager } from "./handlers/manager.ts";
import { handleOffer } from "./handlers/offer.ts";
import type { Session } from "./session.ts";

/** @throws ProtocolError, FailureError, SyscallError: the session ends */
export function handleRequest(session: Session, message: AnyRequest<OwnedFd>): void {
  switch (message.interface) {
    case "shmlink_manager_v1":
      return handleManager(session, message.object, message.request);
    case "shmlink_channel_v1":
      return handleChannel(session, message.object, message.request);
    case "shmlink_grant_v1":
      return handleGrant(session, message.object, message.request);
    case "shmlink_offer_v1":
      return handleOffer(session, message.object, message.request);
    case "shmlink_service_v1":
    case "shmlink_listener_v1":
    case "shmlink_delivery_v1":
    case "shmlink_context_v1":
      return session.release(message.object); // destroy is all they have
    case "wl_display":
    case "wl_registry":
      return handleDisplay(session, message);
    case "wl_callback":
    case "shmlink_resolution_v1":
    case "shmlink_listing_v1":
      throw new ProtocolError(`${message.interface} has no requests`, { objectId: message.object });
    default:
      return assertNever(message);
  }
}
