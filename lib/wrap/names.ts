/**
 * What a handed-off socket is called. The names carry everything that the TCP-shaped addresses of both ends are made
 * from, so any supervisor can read them off a socket with getsockname(2) and getpeername(2), and none has to remember
 * a connection: fork, exec, dup and descriptor passing need no tracking. Pure.
 *
 * A listener's path says where the program listened: `DIRECTORY/4-127.0.0.1-8123-PID-N.tcp`.
 * A connection's client end has an abstract name, `shmlink/4/CLIENT-PORT/SERVER-PORT`, which is exactly the TCP
 * 4-tuple: the kernel refuses the same name twice, as it refuses the same 4-tuple twice.
 *
 * Anybody may bind a socket to such a name: what is read from one is nothing that a socket of its family could not show.
 */
import { type Endpoint, formatHost, type Host, isUnspecified, loopbackFor, parseHost, unmapHost } from "./host.ts";

/** Which kind of socket the program made: 4 for AF_INET, 6 for AF_INET6. */
export type Domain = 4 | 6;

export type ListenerName = { readonly domain: Domain; readonly local: Endpoint };
export type ConnectionName = { readonly domain: Domain; readonly client: Endpoint; readonly server: Endpoint };

const LISTENER = /(?:^|\/)([46])-([0-9a-f.:]+)-(\d{1,5})-\d+-\d+\.tcp$/;
const CONNECTION = /^@shmlink\/([46])\/([0-9a-f.:]+)-(\d{1,5})\/([0-9a-f.:]+)-(\d{1,5})$/;
const CONNECTION_PREFIX = "@shmlink/4/".length;
const PROBE = "@shmlink/probe/";
const MARKER = "@shmlink/marker/";

export function listenerPath(directory: string, { domain, local }: ListenerName, pid: number, serial: number): string {
  return `${directory}/${domain}-${formatHost(local.host)}-${local.port}-${pid}-${serial}.tcp`;
}

function domainOf(text: string | undefined): Domain {
  return text === "4" ? 4 : 6;
}

function endpoint(host: string | undefined, port: string | undefined): Endpoint | undefined {
  const bytes: Host | undefined = parseHost(host ?? "");
  const number = Number(port);
  if (bytes === undefined || number > 65535 || unmapHost(bytes).length !== bytes.length) return undefined;
  return { host: bytes, port: number };
}

/** An IPv6 socket shows either, IPv4 as mapped addresses. */
function canShow(domain: Domain, { host }: Endpoint): boolean {
  return domain === 6 || host.length === 4;
}

/** undefined for a path that listenerPath() did not make. */
export function parseListenerPath(path: string): ListenerName | undefined {
  const match = LISTENER.exec(path);
  const local = endpoint(match?.[2], match?.[3]);
  const domain = domainOf(match?.[1]);
  return local === undefined || !canShow(domain, local) ? undefined : { domain, local };
}

/** As readUnixAddress() shows an abstract name: "@" for its first, zero byte. */
export function connectionName({ domain, client, server }: ConnectionName): string {
  const { head, tail } = connectionNameParts({ domain, client: client.host, server });
  return `${head}${client.port}${tail}`;
}

/** connectionName() before and after the client's port. */
export function connectionNameParts(parts: { domain: Domain; client: Host; server: Endpoint }): {
  readonly head: string;
  readonly tail: string;
} {
  const { domain, client, server } = parts;
  return {
    head: `@shmlink/${domain}/${formatHost(client)}-`,
    tail: `/${formatHost(server.host)}-${server.port}`,
  };
}

/** What names have said, by all of a name but the client's port: in the many connections of one client to one server
 *  nothing else changes. */
const parsed: Map<string, ConnectionName> = new Map();
const MAX_PARSED = 256;

/** undefined for a name that connectionName() did not make. */
export function parseConnectionName(name: string): ConnectionName | undefined {
  const start = name.indexOf("-", CONNECTION_PREFIX) + 1;
  const end = name.indexOf("/", start);
  if (start === 0 || end < 0) return undefined;
  const port = parsePort(name, start, end);
  const key = name.slice(0, start) + name.slice(end);
  const known = port === undefined ? undefined : parsed.get(key);
  if (known !== undefined && port !== undefined) return { ...known, client: { host: known.client.host, port } };
  const whole = parseWholeName(name);
  if (whole === undefined) return undefined;
  if (parsed.size >= MAX_PARSED) parsed.clear();
  parsed.set(key, whole);
  return whole;
}

function parsePort(text: string, start: number, end: number): number | undefined {
  let port = 0;
  for (let at = start; at < end; at++) {
    const digit = text.charCodeAt(at) - 48;
    if (digit < 0 || digit > 9) return undefined;
    port = port * 10 + digit;
  }
  return end === start || end - start > 5 || port > 65535 ? undefined : port;
}

function parseWholeName(name: string): ConnectionName | undefined {
  const match = CONNECTION.exec(name);
  const client = endpoint(match?.[2], match?.[3]);
  const server = endpoint(match?.[4], match?.[5]);
  const domain = domainOf(match?.[1]);
  if (client === undefined || server === undefined || !canShow(domain, client)) return undefined;
  return client.host.length === server.host.length ? { domain, client, server } : undefined;
}

/** The name of a connection that only announces one from elsewhere. `token` is the supervisor's secret. */
export function markerName(token: string, serial: number): string {
  return `${MARKER}${token}/${serial}`;
}

export function isMarkerName(name: string, token: string): boolean {
  return name.startsWith(`${MARKER}${token}/`);
}

/** The name of a connection that only asks whether somebody listens. */
export function probeName(unique: string): string {
  return `${PROBE}${unique}`;
}

export function isProbeName(name: string): boolean {
  return name.startsWith(PROBE);
}

/** What a socket of ours is, and the addresses it shows to its program. */
export type Shape = {
  readonly kind: "listener" | "accepted" | "client";
  readonly domain: Domain;
  readonly local: Endpoint;
  /** undefined for a listener. */
  readonly remote: Endpoint | undefined;
};

/**
 * Reads a Unix socket's own name and its peer's ("" when unnamed, undefined when there is no peer).
 * @param strangerPort  for a peer that came over the Unix socket by itself and has no TCP address
 * @param listenerOf  what a listener's address stands for
 * @returns undefined for a socket that is none of ours
 */
export function shapeOf(
  own: string,
  peer: string | undefined,
  strangerPort: () => number,
  listenerOf: (own: string) => ListenerName | undefined = parseListenerPath,
): Shape | undefined {
  const client = parseConnectionName(own);
  if (client !== undefined)
    return { kind: "client", domain: client.domain, local: client.client, remote: client.server };
  const listener = listenerOf(own);
  if (listener === undefined) return undefined;
  if (peer === undefined) return { kind: "listener", ...listener, remote: undefined };
  const known = comingTo(listener, peer);
  if (known !== undefined)
    return { kind: "accepted", domain: listener.domain, local: known.server, remote: known.client };
  return stranger(listener, strangerPort());
}

/** undefined for a peer that has no such name, or one of a family that cannot reach this listener. */
function comingTo({ domain }: ListenerName, peer: string): ConnectionName | undefined {
  const known = parseConnectionName(peer);
  return known !== undefined && canShow(domain, known.client) ? known : undefined;
}

/** Whom an accepted connection shows as its peer, by that end's name. @param strangerPort  as of shapeOf() */
export function remoteOf(listener: ListenerName, peer: string, strangerPort: () => number): Endpoint {
  return comingTo(listener, peer)?.client ?? strangerEndpoint(listener, strangerPort());
}

/** Anybody may connect to the path (curl --unix-socket): such a peer looks like one on the loopback interface. */
function strangerEndpoint({ local }: ListenerName, port: number): Endpoint {
  return { host: isUnspecified(local.host) ? loopbackFor(local.host) : local.host, port };
}

function stranger(listener: ListenerName, port: number): Shape {
  const remote = strangerEndpoint(listener, port);
  const local = { host: remote.host, port: listener.local.port };
  return { kind: "accepted", domain: listener.domain, local, remote };
}
