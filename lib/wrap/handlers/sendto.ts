/** sendto(2) with MSG_FASTOPEN, which connects and sends in one. It goes over TCP, and the reason is recorded. */
import { readInetAddress } from "../../../ffi/mod.ts";
import { type Answer, CONTINUE } from "../answer.ts";
import type { Call, Context } from "../context.ts";
import { formatHost, unmapHost } from "../host.ts";

export function handleSendto({ registry }: Context, { tracee, args }: Call): Answer {
  const [, , , , address, length] = args;
  const bytes = address === 0 || length < 16 || length > 128 ? undefined : tracee.read(address, length);
  const destination = bytes && readInetAddress(bytes);
  if (destination === undefined) return CONTINUE;
  const host = formatHost(unmapHost(destination.host));
  if (registry.resolve(host, destination.port) !== undefined) {
    registry.reportFallback(host, destination.port, "the program connects by TCP Fast Open");
  }
  return CONTINUE;
}
