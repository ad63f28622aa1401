/** What can never be valid is the peer's fault, not a refusal: it ends the session. */
import { ProtocolError } from "../../errors.ts";
import { SHMLINK_MANAGER_V1_DIRECTIONS, SHMLINK_MANAGER_V1_ERROR } from "../../protocol/shmlink-v1.gen.ts";
import { MAX_CAPACITY, MIN_CAPACITY } from "../../ring/layout.ts";
import { isServiceName, quoteName, SERVICE_NAME_RULE } from "../../util/service-name.ts";
import type { BrokerCore } from "../core.ts";
import { BOTH } from "../directions.ts";

/** In a ProtocolError, for the session's manager, whose error it is; the session puts the object's number in. */
export const THE_MANAGER = 0;

/** The error a client gets for an argument that no broker would take. */
export function invalidArgument(message: string, objectId: number = THE_MANAGER): ProtocolError {
  return new ProtocolError(message, { wireCode: SHMLINK_MANAGER_V1_ERROR.invalid_argument, objectId });
}

/** A bit that means nothing yet may mean something to a later broker: who sets it would not get what he asks for. */
export function checkBits(name: string, value: number, bits: Readonly<Record<string, number>>): void {
  const known = Object.values(bits).reduce((all, bit) => all | bit, 0);
  if ((value & ~known) !== 0) throw invalidArgument(`Invalid ${name} ${value}: the bits of ${known} are known`);
}

export function checkName(name: string): void {
  if (!isServiceName(name)) throw invalidArgument(`Invalid service name ${quoteName(name)}: ${SERVICE_NAME_RULE}`);
}

/** The ring's size to use: a power of two in range, or the default for 0. */
export function checkCapacity(core: BrokerCore, capacity: number): number {
  if (capacity === 0) return core.config.limits.defaultCapacityBytes;
  const max = Math.min(MAX_CAPACITY, core.config.limits.maxCapacityBytes);
  if (capacity < MIN_CAPACITY || capacity > max || (capacity & (capacity - 1)) !== 0) {
    throw invalidArgument(`Invalid capacity ${capacity}: a power of two from ${MIN_CAPACITY} to ${max}`);
  }
  return capacity;
}

/** What a side wants to do in its channels: both, where the request says nothing of it. */
export function checkDirections(request: object): number {
  const directions = "directions" in request ? Number(request.directions) : BOTH;
  checkBits("directions", directions, SHMLINK_MANAGER_V1_DIRECTIONS);
  if (directions === 0) throw invalidArgument("Invalid directions 0: at least one is wanted");
  return directions;
}

export function checkPort(port: number): void {
  if (port < 1 || port > 65535) throw invalidArgument(`Invalid port ${port}: 1 to 65535`);
}

/** The form of an IPv4 or IPv6 address, perhaps with a scope; what it means is the kernel's to know. */
export function checkAddress(address: string): void {
  if (!/^[0-9A-Fa-f.:]{2,45}(%[A-Za-z0-9._-]{1,15})?$/.test(address)) {
    throw invalidArgument(`Invalid address ${JSON.stringify(address.slice(0, 64))}: 127.0.0.1 or ::1 is the form`);
  }
}
