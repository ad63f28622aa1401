/**
 * The other process of a benchmark of the broker: serve NAME, serve-default NAME with rings of the usual size, hold NAME COUNT, or flood SOCKET KIND. It writes a line when it
 * is ready and ends with its standard input.
 */
import { readSync } from "node:fs";
import type { Channel } from "../lib/channel/channel.ts";
import { BrokerLink, type ListenOptions } from "../lib/client/broker-link.ts";
import { ClosedError } from "../lib/errors.ts";
import { flood, say } from "./broker-flooder.ts";

/** Bytes of each of the many rings: the smallest, a page. */
const SMALL = 4096;
/** Channels that a server keeps of those who dial and leave. */
const KEPT = 64;
const BYTE: Uint8Array = new Uint8Array(1);

/** One byte. Whoever dials may have taken it and left before the doorbell is rung. */
function answer(channel: Channel): void {
  try {
    channel.send(BYTE);
  } catch (error) {
    if (!(error instanceof ClosedError)) throw error;
  }
}

/** @param keptCount  channels that stay open at a time, the oldest go */
function serve(name: string, keptCount: number, answers: boolean, options: ListenOptions = { capacity: SMALL }): void {
  const link = BrokerLink.connect({ name: "bench", reconnect: false });
  const service = link.listen(name, options);
  const kept: Channel[] = [];
  say("ready");
  for (let channel = service.accept(); channel !== undefined; channel = service.accept()) {
    if (answers) answer(channel);
    kept.push(channel);
    if (kept.length > keptCount) kept.shift()?.close();
  }
}

/** Holds channels, and tells how many nanoseconds each took. */
function hold(name: string, count: number): void {
  const link = BrokerLink.connect({ name: "bench" });
  const held: Channel[] = [];
  say("ready");
  readSync(0, new Uint8Array(1));
  const start = performance.now();
  for (let index = 0; index < count; index++) held.push(link.dial(name, { capacity: SMALL }));
  say(((performance.now() - start) * 1e6) / count);
  readSync(0, new Uint8Array(1)); // until it is over
}

const [mode, subject = "", count = "0"] = process.argv.slice(2);
if (mode === "serve") serve(subject, KEPT, true);
else if (mode === "serve-default") serve(subject, KEPT, true, {});
else if (mode === "keep") serve(subject, Number.POSITIVE_INFINITY, false);
else if (mode === "hold") hold(subject, Number(count));
else if (mode === "flood") flood(subject, count);
