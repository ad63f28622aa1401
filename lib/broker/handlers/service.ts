/** shmlink_service_v1: names under which peers accept channels. */
import type { OwnedFd } from "../../../ffi/mod.ts";
import { FailureError } from "../../errors.ts";
import type { Requests } from "../../protocol/shmlink-v1.gen.ts";
import { authorize, type BrokerCore, chargeQuota, wishOf } from "../core.ts";
import { exeOf } from "../listing.ts";
import type { ServiceRecord } from "../records.ts";
import { backingOf } from "../rights.ts";
import type { Session } from "../session.ts";
import { checkCapacity, checkDirections, checkName } from "./checks.ts";

type Listen = Extract<Requests<OwnedFd>["shmlink_manager_v1"], { kind: "listen" | "listen_directed" }>;

/** @throws FailureError name-in-use, denied, quota; ProtocolError for a name or size that can never be valid */
export function listen(session: Session, request: Listen): void {
  const { core, owner } = session;
  checkName(request.name);
  const capacity = checkCapacity(core, request.capacity);
  const directions = checkDirections(request);
  const rule = authorize(core, owner, "listen", request.name);
  const holder = core.registry.services.get(request.name);
  if (holder !== undefined) {
    const { owner: other } = holder.session;
    throw new FailureError(
      "name-in-use",
      `Cannot ${wishOf("listen", request.name)}: process ${other.pid} (${exeOf(other) || "?"}) does already; end it, or take another name`,
    );
  }
  chargeQuota(core, owner, wishOf("listen", request.name), { services: 1 });
  const id = core.registry.nextId();
  const record: ServiceRecord = {
    kind: "service",
    id,
    name: request.name,
    capacity,
    directions,
    rule,
    rights: backingOf(owner, ["listen"], request.name),
    session,
    object: request.id,
    accepted: 0,
  };
  core.registry.services.set(record.name, record);
  session.handles.set(request.id, record);
  session.send(request.id, "shmlink_service_v1", { kind: "registered", serviceId: id });
}

export function removeService(core: BrokerCore, record: ServiceRecord): void {
  if (core.registry.services.get(record.name) !== record) return;
  core.registry.services.delete(record.name);
  core.quota.release(record.session.owner, { services: 1 });
}
