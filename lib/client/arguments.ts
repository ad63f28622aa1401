/** What a caller hands to a link, checked before it costs a connection. In plain JavaScript it may be anything. */
import type { BorrowedFd } from "../../ffi/mod.ts";
import { FailureError } from "../errors.ts";
import { GRANT_PATTERN_RULE, isGrantPattern, MAX_GRANTS } from "../util/grant-pattern.ts";
import { checkMilliseconds } from "../util/milliseconds.ts";
import { isServiceName, quoteName, SERVICE_NAME_RULE } from "../util/service-name.ts";
import { ANSWER_MS } from "./broker-socket.ts";
import { type GrantSpec, RIGHTS, rightsBits } from "./grant.ts";

export function answerMs(given: number | undefined, name: string): number {
  return given === undefined ? ANSWER_MS : checkMilliseconds(given, name);
}

/** @throws TypeError */
export function checkString(text: string, what: string): void {
  if (typeof text !== "string") throw new TypeError(`Cannot use "${String(text)}" as ${what}: a string is needed`);
}

/** Without a number it would be taken for 0, which is stdin. @throws TypeError */
export function checkFd(fd: BorrowedFd): BorrowedFd {
  const given: Partial<BorrowedFd> | null | undefined = fd;
  if (Number.isInteger(given?.number)) return fd;
  throw new TypeError(`Cannot use "${String(fd)}" as a descriptor: an object is needed, as in { number: 3 }`);
}

/** What no broker takes is not worth a connection. @throws FailureError "invalid", TypeError */
export function checkName(name: string): void {
  checkString(name, "a service name");
  if (isServiceName(name)) return;
  throw new FailureError("invalid", `Cannot use service name ${quoteName(name)}: ${SERVICE_NAME_RULE}`);
}

/** @throws FailureError "invalid", TypeError */
export function checkGrants(grants: readonly GrantSpec[]): void {
  const invalid = (why: string): FailureError => new FailureError("invalid", `Cannot mint a connection: ${why}`);
  if (grants.length > MAX_GRANTS) throw invalid(`${grants.length} grants are too many, ${MAX_GRANTS} is the most`);
  for (const { rights, name } of grants) {
    checkString(name, "a name to grant");
    if (!isGrantPattern(name)) throw invalid(`its grant names ${quoteName(name)}, ${GRANT_PATTERN_RULE} is wanted`);
    if (rightsBits(rights) === 0) throw invalid(`its grant on "${name}" has none of ${RIGHTS.join(", ")}`);
  }
}
