/** shmlink_manager_v1: hello first, then everything else. A refusal goes to the object that was to be made.
 *  Descriptors of a request that ends in an exception are closed by the connection. */
import type { OwnedFd } from "../../../ffi/mod.ts";
import { FailureError, ProtocolError } from "../../errors.ts";
import { type Requests, SHMLINK_MANAGER_V1_ERROR } from "../../protocol/shmlink-v1.gen.ts";
import { assertNever } from "../../util/assert-never.ts";
import type { ObjectId } from "../../util/brand.ts";
import { failureNumber } from "../core.ts";
import { startListing } from "../listings.ts";
import { plainText } from "../plain-text.ts";
import type { Session } from "../session.ts";
import { dial } from "./channel.ts";
import { invalidArgument } from "./checks.ts";
import { createContext } from "./context.ts";
import { mint } from "./grant.ts";
import { registerListener, reportFallback, resolve } from "./listener.ts";
import { openOffer, take } from "./offer.ts";
import { listen } from "./service.ts";

type Request = Requests<OwnedFd>["shmlink_manager_v1"];
type Hello = Extract<Request, { kind: "hello" }>;

const MAX_NAME = 64;
/** What requests count for beside a sync, which is 1: about the work that they are. Two memfds, mappings and sockets; and a
 *  refusal with its sentence and its line in the log. */
const CHANNEL_COST = 8;
const REFUSAL_COST = 4;

export function handleManager(session: Session, object: ObjectId, request: Request): void {
  if (request.kind !== "hello" && !session.greeted) {
    throw new ProtocolError(`"${request.kind}" before hello`, {
      objectId: object,
      wireCode: SHMLINK_MANAGER_V1_ERROR.no_hello,
    });
  }
  switch (request.kind) {
    case "hello":
      return hello(session, object, request);
    case "listen":
    case "listen_directed":
      return orFailed(session, request.id, "shmlink_service_v1", () => listen(session, request));
    case "dial":
    case "dial_directed":
      session.countAs(CHANNEL_COST);
      return orFailed(session, request.id, "shmlink_channel_v1", () => dial(session, request));
    case "register_listener":
      return orFailed(session, request.id, "shmlink_listener_v1", () => registerListener(session, request));
    case "resolve":
      return resolve(session, request);
    case "report_fallback":
      return reportFallback(session, request);
    case "list":
      return orFailed(session, request.id, "shmlink_listing_v1", () =>
        startListing(session, request.id, request.selector),
      );
    case "offer":
      return orFailed(session, request.id, "shmlink_offer_v1", () => openOffer(session, request));
    case "take":
      return orFailed(session, request.id, "shmlink_delivery_v1", () => take(session, request));
    case "spare":
      return session.spares.add(object, request.serial, request.memfd);
    case "mint":
      return mint(session, request.id);
    case "create_context":
      return orFailed(session, request.id, "shmlink_context_v1", () => createContext(session, request));
    default:
      return assertNever(request);
  }
}

function hello(session: Session, object: ObjectId, request: Hello): void {
  if (session.greeted) {
    throw new ProtocolError("A second hello", { objectId: object, wireCode: SHMLINK_MANAGER_V1_ERROR.second_hello });
  }
  if (request.name.length < 1 || request.name.length > MAX_NAME) {
    throw invalidArgument(`Invalid client name of ${request.name.length} characters: 1 to ${MAX_NAME}`, object);
  }
  session.name = plainText(request.name, MAX_NAME);
  session.greeted = true;
  session.manager = object;
  session.adoptDoorbell(request.doorbell);
  const { core } = session;
  const maxCapacity = core.config.limits.maxCapacityBytes;
  session.send(object, "shmlink_manager_v1", { kind: "welcome", version: core.version, uid: core.uid, maxCapacity });
}

type Fallible =
  | "shmlink_service_v1"
  | "shmlink_channel_v1"
  | "shmlink_listener_v1"
  | "shmlink_offer_v1"
  | "shmlink_delivery_v1"
  | "shmlink_context_v1"
  | "shmlink_listing_v1";

function orFailed(session: Session, id: ObjectId, name: Fallible, act: () => void): void {
  try {
    act();
  } catch (error) {
    if (!(error instanceof FailureError)) throw error;
    session.countAs(REFUSAL_COST);
    if (name === "shmlink_listing_v1") return session.send(id, name, { kind: "done" }); // hidden is like empty
    session.send(id, name, { kind: "failed", code: failureNumber(error.code), message: error.message });
  }
}
