/** What a caller hands to a link, checked before it costs a connection. */
import { FailureError } from "../errors.ts";
import { GRANT_PATTERN_RULE, isGrantPattern, MAX_GRANTS } from "../util/grant-pattern.ts";
import { checkMilliseconds } from "../util/milliseconds.ts";
import { isServiceName, quoteName, SERVICE_NAME_RULE } from "../util/service-name.ts";
import { ANSWER_MS } from "./broker-socket.ts";
import { type GrantSpec, RIGHTS, rightsBits } from "./grant.ts";

export function answerMs(given: number | undefined, name: string): number {
  return given === undefined ? ANSWER_MS : checkMilliseconds(given, name);
}

/** What no broker takes is not worth a connection. @throws FailureError "invalid" */
export function checkName(name: string): void {
  if (isServiceName(name)) return;
  throw new FailureError("invalid", `Cannot use service name ${quoteName(name)}: ${SERVICE_NAME_RULE}`);
}

/** @throws FailureError "invalid" */
export function checkGrants(grants: readonly GrantSpec[]): void {
  const invalid = (why: string): FailureError => new FailureError("invalid", `Cannot mint a connection: ${why}`);
  if (grants.length > MAX_GRANTS) throw invalid(`${grants.length} grants are too many, ${MAX_GRANTS} is the most`);
  for (const { rights, name } of grants) {
    if (!isGrantPattern(name)) throw invalid(`its grant names ${quoteName(name)}, ${GRANT_PATTERN_RULE} is wanted`);
    if (rightsBits(rights) === 0) throw invalid(`its grant on "${name}" has none of ${RIGHTS.join(", ")}`);
  }
}
