/**
 * The other process of a benchmark. Descriptors 3 to 5: its ring, the first process's ring, its doorbell. It does what
 * each command message says, until the channel ends.
 */
import { readSync, writeSync } from "node:fs";
import { OwnedFd, pinToCpu } from "../ffi/mod.ts";
import { type Channel, ChannelSetup, type EndOptions } from "../lib/channel/channel.ts";
import { awaitView } from "./in-place.ts";

export type Command = {
  readonly kind: "echo" | "echo-in-place" | "sink" | "drain" | "read" | "pin";
  /** Bytes, or the processor. */
  readonly size: number;
  readonly count: number;
};

const options = JSON.parse(process.argv[2] ?? "{}") as EndOptions;

function echo(channel: Channel, into: Uint8Array, count: number): void {
  for (let index = 0; index < count; index++) {
    channel.receiveInto(into);
    channel.send(into);
  }
}

function sink(channel: Channel, into: Uint8Array, count: number): void {
  for (let index = 0; index < count; index++) channel.receiveInto(into);
  channel.send(into.subarray(0, Math.min(8, into.length)));
}

/** Sent back from where it lies. */
function echoInPlace(channel: Channel, _into: Uint8Array, count: number): void {
  for (let index = 0; index < count; index++) {
    channel.send(awaitView(channel, options.spinUs));
    channel.release();
  }
}

const BATCH = 16;

/** Receives up to a batch in one call, as the sender puts several records at once. */
function drain(channel: Channel, one: Uint8Array, count: number): void {
  const size = one.length;
  const into = new Uint8Array(size * BATCH);
  let received = 0;
  while (received < count) {
    const some = channel.receivePacked(into, size);
    if (some === 0) throw new Error(`Cannot trust the benchmark: it ended after ${received} messages`);
    received += some;
  }
  channel.send(into.subarray(0, 8));
}

const CACHE_LINE = 64;

/** In place, and all of it comes to this processor: a byte of each cache line is read. */
function read(channel: Channel, into: Uint8Array, count: number): void {
  let looked = 0;
  for (let received = 0; received < count; received++) {
    const view = awaitView(channel, options.spinUs);
    for (let at = 0; at < view.length; at += CACHE_LINE) looked = (looked + (view[at] as number)) | 0;
    channel.release();
  }
  into[0] = looked; // so that the reading is not optimised away
  channel.send(into.subarray(0, Math.min(8, into.length)));
}

const WORK = { echo, "echo-in-place": echoInPlace, sink, drain, read } as const;

function serve(channel: Channel): void {
  for (let message = channel.receive(); message !== undefined; message = channel.receive()) {
    const { kind, size, count } = JSON.parse(new TextDecoder().decode(message.data)) as Command;
    if (kind === "pin") pinToCpu(size);
    else WORK[kind](channel, new Uint8Array(size), count);
  }
}

const setup = new ChannelSetup(new OwnedFd(3), new OwnedFd(5));
writeSync(1, "mapped\n");
readSync(0, new Uint8Array(1)); // sealed now
const channel = setup.complete(new OwnedFd(4), options);
serve(channel);
channel.close();
