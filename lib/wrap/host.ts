/** IP addresses as text and bytes, in the one form that the registry compares (RFC 5952). Pure. */

/** 4 or 16 bytes in network order. */
export type Host = Uint8Array<ArrayBuffer>;

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

export function formatHost(host: Uint8Array): string {
  return host.length === 4 ? `${host[0]}.${host[1]}.${host[2]}.${host[3]}` : formatV6(host);
}

function formatV6(host: Uint8Array): string {
  const groups: number[] = [];
  for (let at = 0; at < 16; at += 2) groups.push(((host[at] ?? 0) << 8) | (host[at + 1] ?? 0));
  const { start, length } = longestZeroRun(groups);
  const hex = (part: readonly number[]): string => part.map((group) => group.toString(16)).join(":");
  if (length < 2) return hex(groups);
  return `${hex(groups.slice(0, start))}::${hex(groups.slice(start + length))}`;
}

function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  let start = 0;
  for (const [index, group] of groups.entries()) {
    if (group !== 0) start = index + 1;
    else if (index + 1 - start > best.length) best = { start, length: index + 1 - start };
  }
  return best;
}

/** The bytes of an address; undefined for what is none. */
export function parseHost(text: string): Host | undefined {
  return text.includes(":") ? parseV6(withoutDots(text)) : parseV4(text);
}

/** ::ffff:1.2.3.4 → ::ffff:102:304 */
function withoutDots(text: string): string {
  if (!text.includes(".")) return text;
  const at = text.lastIndexOf(":") + 1;
  const [a, b, c, d] = parseV4(text.slice(at)) ?? [];
  if (a === undefined || b === undefined || c === undefined || d === undefined) return "";
  return `${text.slice(0, at)}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
}

function parseV4(text: string): Host | undefined {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) < 256)) return undefined;
  return Uint8Array.from(parts, Number);
}

function parseV6(text: string): Host | undefined {
  const halves = text.split("::");
  const [head, tail] = halves.map((half) => (half === "" ? [] : half.split(":")));
  if (head === undefined || halves.length > 2) return undefined;
  const given = head.length + (tail?.length ?? 0);
  if (tail === undefined ? given !== 8 : given > 7) return undefined;
  const groups = [...head, ...Array<string>(8 - given).fill("0"), ...(tail ?? [])];
  if (!groups.every((group) => /^[0-9a-f]{1,4}$/i.test(group))) return undefined;
  return Uint8Array.from(
    groups.flatMap((group) => [Number.parseInt(group, 16) >>> 8, Number.parseInt(group, 16) & 255]),
  );
}
