/** Options of which a connection says something else than the unconnected TCP socket that is asked in its place. Pure. */
import { constants } from "../../ffi/mod.ts";
import type { Domain } from "./names.ts";
import { optionKey } from "./socket-table.ts";
import { LOOPBACK_MSS } from "./tcp-info.ts";

const { AF_INET6, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, IPV6_V6ONLY } = constants;

const LOOPBACK_MTU = 65_536;
const MOST_OF_IPV4 = 65_535; // net/ip.h IP_MAX_MTU

// linux/tcp.h, linux/in.h, linux/in6.h
const TCP_MAXSEG = optionKey(IPPROTO_TCP, 2);
const TCP_DEFER_ACCEPT = optionKey(IPPROTO_TCP, 9);
const TCP_FASTOPEN = optionKey(IPPROTO_TCP, 23);
const TCP_FASTOPEN_CONNECT = optionKey(IPPROTO_TCP, 30);
const TCP_FASTOPEN_NO_COOKIE = optionKey(IPPROTO_TCP, 34);
const IP_MTU = optionKey(IPPROTO_IP, 14);
const IPV6_ADDRFORM = optionKey(IPPROTO_IPV6, 1);
const IPV6_MTU = optionKey(IPPROTO_IPV6, 24);

const VALUES: Readonly<Record<Domain, ReadonlyMap<number, number>>> = {
  4: new Map([
    [TCP_MAXSEG, LOOPBACK_MSS],
    [IP_MTU, MOST_OF_IPV4],
  ]),
  6: new Map([
    [TCP_MAXSEG, LOOPBACK_MSS],
    [IP_MTU, LOOPBACK_MTU],
    [IPV6_MTU, LOOPBACK_MTU],
    [IPV6_ADDRFORM, AF_INET6],
  ]),
};

/** What a connection over the loopback interface says, where an unconnected socket says something else or nothing. */
export function connectedValue(domain: Domain, level: number, name: number): number | undefined {
  return VALUES[domain].get(optionKey(level, name));
}

const FIXED: ReadonlySet<number> = new Set([
  TCP_FASTOPEN,
  TCP_FASTOPEN_CONNECT,
  TCP_FASTOPEN_NO_COOKIE,
  optionKey(IPPROTO_IPV6, IPV6_V6ONLY),
]);

/** Whether a connection refuses it (EINVAL). */
export function isFixedOnceConnected(level: number, name: number): boolean {
  return FIXED.has(optionKey(level, name));
}

/** Whether it is about listening alone, so that connections do not inherit it. */
export function isOfListener(level: number, name: number): boolean {
  const key = optionKey(level, name);
  return key === TCP_DEFER_ACCEPT || key === TCP_FASTOPEN;
}
