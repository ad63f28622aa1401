/** The server name of a TLS ClientHello (RFC 8446, 4.1.2; RFC 6066, 3), from the bytes that have come so far. Pure. The
 *  hello may be spread over several records. */
import { hostOf, type Peeked } from "./http-host.ts";

const HANDSHAKE_RECORD = 22;
const CLIENT_HELLO = 1;
const SERVER_NAME = 0;
const MAX_RECORD = 1 << 14;

const MORE: Peeked = { kind: "more" };
const NONE: Peeked = { kind: "none" };

export function peekTlsSni(bytes: Uint8Array): Peeked {
  const joined = joinRecords(bytes);
  if (joined === undefined) return NONE;
  if (joined.length < 4) return MORE;
  if (joined[0] !== CLIENT_HELLO) return NONE;
  const end = 4 + (((joined[1] ?? 0) << 16) | ((joined[2] ?? 0) << 8) | (joined[3] ?? 0));
  if (joined.length < end) return MORE;
  const extensions = skipToExtensions(new Reader(joined.subarray(4, end)));
  return extensions === undefined ? NONE : findName(extensions);
}

/** The handshake bytes of the records, the last one perhaps not whole; undefined when it is not TLS. */
function joinRecords(bytes: Uint8Array): Uint8Array | undefined {
  const parts: number[] = [];
  for (let at = 0; at < bytes.length; ) {
    if (bytes[at] !== HANDSHAKE_RECORD || (bytes[at + 1] ?? 3) !== 3) return undefined;
    if (bytes.length < at + 5) break;
    const length = ((bytes[at + 3] ?? 0) << 8) | (bytes[at + 4] ?? 0);
    if (length === 0 || length > MAX_RECORD) return undefined;
    parts.push(...bytes.subarray(at + 5, at + 5 + length));
    at += 5 + length;
  }
  return new Uint8Array(parts);
}

/** Version, random, session id, cipher suites, compression methods. */
function skipToExtensions(hello: Reader): Reader | undefined {
  if (hello.take(34) === undefined || hello.vector(1) === undefined) return undefined;
  if (hello.vector(2) === undefined || hello.vector(1) === undefined) return undefined;
  const extensions = hello.vector(2);
  return extensions === undefined ? undefined : new Reader(extensions);
}

function findName(extensions: Reader): Peeked {
  for (;;) {
    const type = extensions.number(2);
    const body = extensions.vector(2);
    if (type === undefined || body === undefined) return NONE;
    if (type !== SERVER_NAME) continue;
    const list = new Reader(body).vector(2);
    if (list === undefined) return NONE;
    const entry = new Reader(list);
    const kind = entry.number(1); // 0: host_name, the only one there is
    const name = entry.vector(2);
    return kind !== 0 || name === undefined ? NONE : hostOf(new TextDecoder("latin1").decode(name));
  }
}

/** Takes bytes from the front; undefined where there are too few. */
class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  take(count: number): Uint8Array | undefined {
    if (this.#at + count > this.#bytes.length) return undefined;
    this.#at += count;
    return this.#bytes.subarray(this.#at - count, this.#at);
  }

  number(size: number): number | undefined {
    return this.take(size)?.reduce((value, byte) => value * 256 + byte, 0);
  }

  /** A length of `size` bytes, and as many bytes as it says. */
  vector(size: number): Uint8Array | undefined {
    const length = this.number(size);
    return length === undefined ? undefined : this.take(length);
  }
}
