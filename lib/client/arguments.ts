/** What a caller hands to a link, checked before it costs a connection. */
import { FailureError } from "../errors.ts";
import { checkMilliseconds } from "../util/milliseconds.ts";
import { isServiceName, quoteName, SERVICE_NAME_RULE } from "../util/service-name.ts";
import { ANSWER_MS } from "./broker-socket.ts";

export function answerMs(given: number | undefined, name: string): number {
  return given === undefined ? ANSWER_MS : checkMilliseconds(given, name);
}

/** What no broker takes is not worth a connection. @throws FailureError "invalid" */
export function checkName(name: string): void {
  if (isServiceName(name)) return;
  throw new FailureError("invalid", `Cannot use service name ${quoteName(name)}: ${SERVICE_NAME_RULE}`);
}
