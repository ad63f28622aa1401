/** A name on the command line, looked at before anything is started for it. */
import { isServiceName, quoteName, SERVICE_NAME_RULE } from "../util/service-name.ts";
import { UsageError } from "./usage-error.ts";

/** @throws UsageError */
export function parseServiceName(text: string): string {
  if (isServiceName(text)) return text;
  throw new UsageError(`Cannot use name ${quoteName(text)}: ${SERVICE_NAME_RULE}`);
}
