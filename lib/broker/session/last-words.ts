/** Why a session ends: in the log, and to the peer, if it reads. */
import { SyscallError } from "../../../ffi/mod.ts";
import { FailureError, ProtocolError } from "../../errors.ts";
import type { Fields, Logger } from "../../log.ts";
import type { ServerConnection } from "../../protocol/connection.ts";
import { WL_DISPLAY_ERROR } from "../../protocol/shmlink-v1.gen.ts";
import type { ObjectId } from "../../util/brand.ts";
import { DISPLAY_ID } from "../../wire/object-map.ts";
import { THE_MANAGER } from "../handlers/checks.ts";

const MAX_MESSAGE_LENGTH = 1024;

export type Ending = {
  readonly connection: ServerConnection;
  readonly logger: Logger;
  readonly who: Fields;
  readonly manager: ObjectId | undefined;
};

/** The peer's fault is told with an error that it can read; the system's refusal too; a bug ends the broker.
 *  @throws whatever is neither */
export function sayWhy(error: unknown, { connection, logger, who, manager }: Ending): void {
  if (error instanceof ProtocolError) {
    logger.warn(`Session ended: ${error.message}`, who);
    const objectId = error.objectId === THE_MANAGER ? (manager ?? DISPLAY_ID) : error.objectId;
    sayLast(connection, objectId, error.wireCode, error.message);
  } else if (error instanceof SyscallError || error instanceof FailureError) {
    logger.warn(`Session ended: ${error.message}`, who);
    sayLast(connection, DISPLAY_ID, WL_DISPLAY_ERROR.no_memory, error.message);
  } else throw error;
}

function sayLast(connection: ServerConnection, objectId: number, code: number, message: string): void {
  try {
    connection.sendError(objectId as ObjectId, code, message.slice(0, MAX_MESSAGE_LENGTH));
    connection.flush();
  } catch {
    // the peer does not read or is gone: it will see the end of the connection
  }
}
