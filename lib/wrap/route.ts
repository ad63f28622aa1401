/** The client's half of a 4-tuple: from which address and port TCP would have connected. */
import { readFileSync } from "node:fs";
import { connect, constants, inetAddress, SyscallError, socket } from "../../ffi/mod.ts";
import type { Endpoint, Host } from "./host.ts";
import { localEndpoint } from "./socket.ts";

const { AF_INET, AF_INET6, SOCK_DGRAM } = constants;

const LOOPBACK = 127;

/** The source address that the kernel's routes choose for a destination (a UDP socket sends nothing to learn it).
 *  Of IPv4's loopback addresses each is its own: 127.0.0.1 need not be asked for. */
export function sourceFor(destination: Endpoint): Host {
  const [a, b, c, d] = destination.host;
  if (destination.host.length === 4 && a === LOOPBACK && b === 0 && c === 0 && d === 1) return destination.host;
  const family = destination.host.length === 4 ? AF_INET : AF_INET6;
  try {
    using probe = socket(family, SOCK_DGRAM);
    connect(probe, inetAddress({ family, ...destination }));
    return localEndpoint(probe).host;
  } catch (error) {
    if (error instanceof SyscallError) return destination.host; // no route: both ends are this machine
    throw error;
  }
}

type Range = { readonly low: number; readonly high: number };

let range: Range | undefined;

/** How many ports have been given out, in turns of them all. */
export type PortCursor = { offset: number };

let cursor: PortCursor = { offset: 0 };

/** Goes on with a cursor that somebody else moves too: two who went over the same ports would run into each other's. */
export function sharePortCursor(shared: PortCursor): void {
  shared.offset = cursor.offset;
  cursor = shared;
}

function ephemeralPorts(): Range {
  if (range !== undefined) return range;
  let low = 32768;
  let high = 60999;
  try {
    const [first, last] = readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "latin1")
      .trim()
      .split(/\s+/)
      .map(Number);
    if (first !== undefined && last !== undefined && last - first > 1) [low, high] = [first, last];
  } catch {
    // the kernel's defaults
  }
  range = { low, high };
  cursor.offset = Math.floor((Math.random() * (high - low)) / 2);
  return range;
}

/** All that nextPort() gives. Of the two halves that the range has, connect(2) over TCP takes those first that are as even or
 *  odd as the lowest is (net/ipv4/inet_hashtables.c), and we the others, so that no two clients of a server have the same
 *  port. The kernel's is for sockets of AF_INET6 that connect to IPv4: two connections between the same IPv4 endpoints
 *  differ even if one was made on such a socket. */
export function everySecondPort(isMapped: boolean): { readonly first: number; readonly count: number } {
  const { low, high } = ephemeralPorts();
  return { first: isMapped ? low : low + 1, count: Math.floor((high - low) / 2) };
}

/** The next port to try, in turn. Never the server's own: programs would take that for a socket which is connected to itself. */
export function nextPort(isMapped: boolean, server: number): number {
  const { first, count } = everySecondPort(isMapped);
  const next = (): number => {
    cursor.offset = (cursor.offset + 1) % count;
    return first + cursor.offset * 2;
  };
  const port = next();
  return port === server ? next() : port;
}
