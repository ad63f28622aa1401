/** sendto(2) with MSG_FASTOPEN, which connects and sends in one. */
import type { Answer } from "../answer.ts";
import type { Call, Context } from "../context.ts";
import { handleConnect } from "./connect.ts";

export function handleSendto(context: Context, call: Call): Answer {
  const [number, data, length, , address, addressLength] = call.args;
  const args: Call["args"] = [number, address, addressLength, 0, 0, 0];
  return handleConnect(context, { ...call, args }, { address: data, length });
}
