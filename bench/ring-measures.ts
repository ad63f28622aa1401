/** What is measured of a channel to bench/peer.ts; each answers nanoseconds for one operation. As in the programs in C a tenth
 *  as many go before it: the other process may be asleep, and its copies are in nobody's cache. */
import type { Channel } from "../lib/channel/channel.ts";
import type { Command } from "./peer.ts";

const BATCH = 16;

export function command(channel: Channel, what: Command): void {
  channel.send(new TextEncoder().encode(JSON.stringify(what)));
}

/** @param count  a multiple of 10 */
function timed(count: number, work: (count: number) => void): number {
  work(count / 10);
  const start = performance.now();
  work(count);
  return ((performance.now() - start) * 1e6) / count;
}

/** Of a round trip. */
export function roundTrip(channel: Channel, size: number, count: number): number {
  const bytes = new Uint8Array(size);
  return timed(count, (count) => {
    command(channel, { kind: "echo", size, count });
    for (let index = 0; index < count; index++) {
      channel.send(bytes);
      channel.receiveInto(bytes);
    }
  });
}

/** Of a message, until the last one has been received. @param kind  "sink" copies each out, "read" reads it in place */
export function throughput(channel: Channel, size: number, count: number, kind: "sink" | "read" = "sink"): number {
  const bytes = new Uint8Array(size);
  return timed(count, (count) => {
    command(channel, { kind, size, count });
    for (let index = 0; index < count; index++) channel.send(bytes);
    channel.receive();
  });
}

/** The same, each message in a buffer that was not there before: nothing can be kept of it. */
export function freshThroughput(channel: Channel, size: number, count: number): number {
  const bytes = new Uint8Array(size);
  return timed(count, (count) => {
    command(channel, { kind: "sink", size, count });
    for (let index = 0; index < count; index++) channel.send(bytes.subarray(0, size));
    channel.receive();
  });
}

export function batchThroughput(channel: Channel, size: number, count: number): number {
  const batch = new Uint8Array(size * BATCH);
  return timed(count, (count) => {
    command(channel, { kind: "drain", size, count });
    for (let index = 0; index < count; index += BATCH) channel.sendPacked(batch, size);
    channel.receive();
  });
}
