/** Which rule applies to a socket: the first that fits. Pure. */

import type { Endpoint } from "../host.ts";
import { formatHost, unmapHost } from "../host.ts";
import type { Question, Rule } from "./types.ts";

/** IPv4-mapped addresses are looked at as the IPv4 addresses they stand for. */
export function findRule(rules: readonly Rule[], question: Question): Rule | undefined {
  return rules.find((rule) => matches(rule, question));
}

function matches(rule: Rule, { direction, endpoint }: Question): boolean {
  if (rule.isUdp) return false;
  if (rule.direction !== undefined && rule.direction !== direction) return false;
  const { ports, network } = rule;
  if (ports !== undefined && (endpoint.port < ports.low || endpoint.port > ports.high)) return false;
  return network === undefined || isWithin(unmapHost(endpoint.host), network);
}

function isWithin(host: Uint8Array, { host: base, bits }: NonNullable<Rule["network"]>): boolean {
  if (host.length !== base.length) return false;
  for (let at = 0; at < bits; at += 8) {
    const mask = (0xff00 >> Math.min(bits - at, 8)) & 0xff;
    const index = at >> 3;
    if (((host[index] ?? 0) & mask) !== ((base[index] ?? 0) & mask)) return false;
  }
  return true;
}

/** Whether it says more than that a socket is to be handed off: where to, or that nobody is to be there. */
export function namesPlace(rule: Rule | undefined): boolean {
  return rule !== undefined && rule.action.kind !== "hand-off";
}

/** Puts port, address and type in the place of %p, %a, %t; %% is a percent sign. */
export function expand(template: string, { host, port }: Endpoint): string {
  const values: Record<string, string> = { p: String(port), a: formatHost(host), t: "tcp", "%": "%" };
  return template.replace(/%(.)/g, (whole, letter: string) => values[letter] ?? whole);
}
