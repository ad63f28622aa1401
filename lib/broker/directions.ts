/** Which of its two directions a channel gets: what both sides asked for, and were granted. Pure. */
import { SHMLINK_MANAGER_V1_DIRECTIONS } from "../protocol/shmlink-v1.gen.ts";
import type { GrantSet } from "./grants.ts";

/** Bits of the protocol's `directions`, as one side sees them. */
export const SEND: number = SHMLINK_MANAGER_V1_DIRECTIONS.send;
export const RECEIVE: number = SHMLINK_MANAGER_V1_DIRECTIONS.receive;
export const BOTH: number = SEND | RECEIVE;

/** One side of a channel that is to be made. */
export type Wish = { readonly directions: number; readonly grants: GrantSet | undefined };

/** Whether each side of a channel can send, the dialler first; a side that cannot has no ring. */
export type Flow = readonly [toService: boolean, toDialler: boolean];

/** @returns why, when nothing is left, because such a channel carries nothing */
export function agree(name: string, dialler: Wish, service: Wish): Flow | string {
  const near = allowed(dialler, name);
  const far = allowed(service, name);
  const flow: Flow = [(near & SEND) !== 0 && (far & RECEIVE) !== 0, (near & RECEIVE) !== 0 && (far & SEND) !== 0];
  if (flow[0] || flow[1]) return flow;
  return `no direction is left, the dialler may ${describe(near)} and the service may ${describe(far)}`;
}

function allowed({ directions, grants }: Wish, name: string): number {
  const maySend = grants === undefined || grants.allows("send", name);
  const mayReceive = grants === undefined || grants.allows("receive", name);
  return directions & ((maySend ? SEND : 0) | (mayReceive ? RECEIVE : 0));
}

function describe(directions: number): string {
  if (directions === BOTH) return "do both";
  if (directions === SEND) return "only send";
  return directions === RECEIVE ? "only receive" : "do neither";
}

/** For listings. @param toService, toDialler  bytes of the rings */
export function directionName(toService: number, toDialler: number): "both" | "to-service" | "to-dialler" {
  if (toDialler === 0) return "to-service";
  return toService === 0 ? "to-dialler" : "both";
}
