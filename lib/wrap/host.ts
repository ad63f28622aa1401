/** What sockets make of IP addresses. Pure. */
import type { Host } from "../util/ip-address.ts";

export { formatHost, type Host, hostPort, parseHost } from "../util/ip-address.ts";

export type Endpoint = { readonly host: Host; readonly port: number };

export const LOOPBACK_V4: Host = Uint8Array.of(127, 0, 0, 1);
const MAPPED_PREFIX = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff);

function isMapped(host: Uint8Array): boolean {
  return host.length === 16 && MAPPED_PREFIX.every((byte, index) => host[index] === byte);
}

/** ::ffff:a.b.c.d as the four bytes it stands for; everything else as it is. */
export function unmapHost(host: Uint8Array): Host {
  return isMapped(host) ? host.slice(12) : host.slice();
}

/** As a socket of that family shows it: an IPv4 address on an IPv6 socket is mapped.
 *  An IPv6 address has no IPv4 form and comes back as it is. */
export function mapHost(host: Uint8Array, isV6: boolean): Host {
  if (!isV6 || host.length === 16) return host.slice();
  const mapped = new Uint8Array(16);
  mapped.set(MAPPED_PREFIX);
  mapped.set(host, 12);
  return mapped;
}

/** 0.0.0.0 or :: */
export function isUnspecified(host: Uint8Array): boolean {
  return host.every((byte) => byte === 0);
}

/** 127.255.255.255: the loopback network's own, to which no connection can be made. */
export function isBroadcast(host: Uint8Array): boolean {
  return host.length === 4 && host[0] === 127 && host[1] === 255 && host[2] === 255 && host[3] === 255;
}

/** What connect(2) makes of an unspecified destination, for a socket that is bound to nothing. */
export function loopbackFor(host: Uint8Array): Host {
  if (host.length === 4) return LOOPBACK_V4.slice();
  const loopback = new Uint8Array(16);
  loopback[15] = 1;
  return loopback;
}
