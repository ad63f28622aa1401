/** IP addresses as text and bytes, in the one form that the registry compares and people read (RFC 5952). Pure. */

/** 4 or 16 bytes in network order. */
export type Host = Uint8Array<ArrayBuffer>;

export function formatHost(host: Uint8Array): string {
  return host.length === 4 ? `${host[0]}.${host[1]}.${host[2]}.${host[3]}` : formatV6(host);
}

function formatV6(host: Uint8Array): string {
  const groups: number[] = [];
  for (let at = 0; at < 16; at += 2) groups.push(((host[at] ?? 0) << 8) | (host[at + 1] ?? 0));
  const { start, length } = longestZeroRun(groups);
  const hex = (part: readonly number[]): string => part.map((group) => group.toString(16)).join(":");
  if (start === 0 && length === 5 && groups[5] === 0xffff) return `::ffff:${host.slice(12).join(".")}`;
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

/** An address that may be written in another form; what is none stays as it is. */
export function plainAddress(text: string): string {
  const [address = "", ...scope] = text.split("%");
  const host = parseHost(address);
  return host === undefined ? text : [formatHost(host), ...scope].join("%");
}

/** `127.0.0.1:80`, `[::1]:80`. */
export function hostPort(address: string, port: number): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/** What hostPort() writes; undefined for what it does not. */
export function parseHostPort(text: string): { readonly host: Host; readonly port: number } | undefined {
  const [, v6, v4 = "", digits] = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = parseHost(v6 ?? v4);
  const port = Number(digits);
  return host === undefined || (host.length === 16) !== (v6 !== undefined) || port > 65535 ? undefined : { host, port };
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
