/** What is measured of a channel to bench/peer.ts; each answers nanoseconds for one operation. */
import type { Channel } from "../lib/channel/channel.ts";
import type { Command } from "./peer.ts";

const BATCH = 16;

export function command(channel: Channel, what: Command): void {
  channel.send(new TextEncoder().encode(JSON.stringify(what)));
}

/** Of a round trip. */
export function roundTrip(channel: Channel, size: number, count: number): number {
  const bytes = new Uint8Array(size);
  command(channel, { kind: "echo", size, count });
  const start = performance.now();
  for (let index = 0; index < count; index++) {
    channel.send(bytes);
    channel.receiveInto(bytes);
  }
  return ((performance.now() - start) * 1e6) / count;
}

/** Of a message, until the last one has been received. @param kind  "sink" copies each out, "read" reads it in place */
export function throughput(channel: Channel, size: number, count: number, kind: "sink" | "read" = "sink"): number {
  const bytes = new Uint8Array(size);
  command(channel, { kind, size, count });
  const start = performance.now();
  for (let index = 0; index < count; index++) channel.send(bytes);
  channel.receive();
  return ((performance.now() - start) * 1e6) / count;
}

/** The same, each message in a buffer that was not there before: nothing can be kept of it. */
export function freshThroughput(channel: Channel, size: number, count: number): number {
  const bytes = new Uint8Array(size);
  command(channel, { kind: "sink", size, count });
  const start = performance.now();
  for (let index = 0; index < count; index++) channel.send(bytes.subarray(0, size));
  channel.receive();
  return ((performance.now() - start) * 1e6) / count;
}

export function batchThroughput(channel: Channel, size: number, count: number): number {
  const batch = new Uint8Array(size * BATCH);
  command(channel, { kind: "drain", size, count });
  const start = performance.now();
  for (let index = 0; index < count; index += BATCH) channel.sendPacked(batch, size);
  channel.receive();
  return ((performance.now() - start) * 1e6) / count;
}
