/** wl_display and wl_registry: as clients of libwayland expect them, with one global. */
import type { OwnedFd } from "../../../ffi/mod.ts";
import { ProtocolError } from "../../errors.ts";
import type { AnyRequest } from "../../protocol/connection.ts";
import { INTERFACES } from "../../protocol/shmlink-v1.gen.ts";
import type { Session } from "../session.ts";

const VERSION = INTERFACES.shmlink_manager_v1.version;

type CoreRequest = Extract<AnyRequest<OwnedFd>, { interface: "wl_display" | "wl_registry" }>;

export function handleDisplay(session: Session, message: CoreRequest): void {
  if (message.interface === "wl_display") {
    if (message.request.kind === "sync") {
      session.send(message.request.callback, "wl_callback", { kind: "done", callbackData: 0 });
      return;
    }
    const global = { kind: "global", name: 1, interface: "shmlink_manager_v1", version: VERSION } as const;
    return session.send(message.request.registry, "wl_registry", global);
  }
  const { name, interface: wanted, version } = message.request;
  if (name !== 1 || wanted !== "shmlink_manager_v1" || version < 1 || version > VERSION) {
    throw new ProtocolError(
      `Cannot bind "${wanted}" version ${version} as global ${name}: there is shmlink_manager_v1, version 1 to ${VERSION}, as 1`,
      { objectId: message.object, wireCode: 0 },
    );
  }
}
