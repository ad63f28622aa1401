/** shmlink_channel_v1: the requests of one end. */
import type { OwnedFd } from "../../../ffi/mod.ts";
import { FailureError } from "../../errors.ts";
import type { Requests } from "../../protocol/shmlink-v1.gen.ts";
import { assertNever } from "../../util/assert-never.ts";
import type { ObjectId } from "../../util/brand.ts";
import { checkBacklog } from "../backlog.ts";
import { handOver, openChannel } from "../channels.ts";
import { authorize } from "../core.ts";
import type { Session } from "../session.ts";
import { stands } from "../standing.ts";
import { checkCapacity, checkDirections, checkName } from "./checks.ts";

type Dial = Extract<Requests<OwnedFd>["shmlink_manager_v1"], { kind: "dial" | "dial_directed" }>;
type ChannelRequest = Requests<OwnedFd>["shmlink_channel_v1"];

/** @throws FailureError unknown-name, denied, quota, exhausted; ProtocolError */
export function dial(session: Session, request: Dial): void {
  const { core, owner } = session;
  checkName(request.name);
  const capacity = checkCapacity(core, request.capacity);
  const directions = checkDirections(request);
  const rule = authorize(core, owner, "dial", request.name);
  const service = core.registry.services.get(request.name);
  if (service === undefined || !stands(service, service.session.owner, "listen", service.name)) {
    throw new FailureError("unknown-name", `Cannot dial "${request.name}": nobody listens under this name`);
  }
  checkBacklog(session, service);
  openChannel(core, { session, object: request.id, capacity, directions }, service, rule);
}

/** Requests on a channel whose other side has gone are late, not wrong: they are ignored. */
export function handleChannel(session: Session, object: ObjectId, request: ChannelRequest): void {
  switch (request.kind) {
    case "destroy":
      return session.release(object);
    case "mapped": {
      const handle = session.handles.get(object);
      if (handle?.kind === "side") handOver(session.core, handle.channel, handle.side);
      return;
    }
    default:
      return assertNever(request);
  }
}
