/** Socket addresses as bytes: unix(7), ip(7), ipv6(7). Pure. */
import { AF_INET, AF_INET6, AF_UNIX } from "../constants.ts";

const SUN_PATH_BYTES = 108;

/** A TCP or UDP address. `host` is 4 or 16 bytes in network order. */
export type InetAddress = {
  readonly family: typeof AF_INET | typeof AF_INET6;
  readonly host: Uint8Array;
  readonly port: number;
};

const decoder = new TextDecoder();
const encoder = new TextEncoder();

/** UTF-8. Nearly every name is ASCII and short, for which the runtimes' own coders take longer than this. */
function encode(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code > 0x7f) return encoder.encode(text);
    bytes[at] = code;
  }
  return bytes;
}

function decode(bytes: Uint8Array, start: number, end: number): string {
  let text = "";
  for (let at = start; at < end; at++) {
    const code = bytes[at] ?? 0;
    if (code > 0x7f) return decoder.decode(bytes.subarray(start, end));
    text += String.fromCharCode(code);
  }
  return text;
}

/**
 * A sockaddr_un. A path that starts with "\0" or "@" is abstract, and exactly as long as it says.
 * @throws RangeError when the path does not fit in sun_path: 107 bytes and a NUL
 */
export function unixAddress(path: string): Uint8Array<ArrayBuffer> {
  const abstract = path.startsWith("@") || path.startsWith("\0");
  const name = encode(abstract ? `\0${path.slice(1)}` : `${path}\0`);
  if (name.length > SUN_PATH_BYTES) {
    throw new RangeError(`Cannot use socket path "${path}": it is ${name.length - 1} bytes long, 107 is the most`);
  }
  const bytes = new Uint8Array(2 + name.length);
  bytes[0] = AF_UNIX;
  bytes.set(name, 2);
  return bytes;
}

/** The path of a sockaddr_un, "@name" when abstract, "" when unnamed; undefined when it is no Unix address. */
export function readUnixAddress(bytes: Uint8Array): string | undefined {
  if (addressFamily(bytes) !== AF_UNIX) return undefined;
  const name = bytes.subarray(2);
  if (name.length === 0) return "";
  if (name[0] === 0) return `@${decode(name, 1, name.length)}`;
  const end = name.indexOf(0);
  return decode(name, 0, end < 0 ? name.length : end);
}

/** sa_family; undefined when there is no room for one. */
export function addressFamily(bytes: Uint8Array): number | undefined {
  return bytes.length < 2 ? undefined : (bytes[0] ?? 0) | ((bytes[1] ?? 0) << 8);
}

/** A sockaddr_in (16 bytes) or sockaddr_in6 (28 bytes). */
export function inetAddress(address: InetAddress): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(address.family === AF_INET ? 16 : 28);
  bytes[0] = address.family;
  bytes[2] = address.port >>> 8;
  bytes[3] = address.port & 0xff;
  bytes.set(address.host, address.family === AF_INET ? 4 : 8);
  return bytes;
}

/** Reads a sockaddr_in or sockaddr_in6; undefined for another family or too few bytes. */
export function readInetAddress(bytes: Uint8Array): InetAddress | undefined {
  const family = addressFamily(bytes);
  const port = ((bytes[2] ?? 0) << 8) | (bytes[3] ?? 0);
  if (family === AF_INET && bytes.length >= 8) return { family, port, host: bytes.slice(4, 8) };
  if (family === AF_INET6 && bytes.length >= 24) return { family, port, host: bytes.slice(8, 24) };
  return undefined;
}
