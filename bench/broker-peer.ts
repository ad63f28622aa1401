/**
 * The other process of a benchmark of the broker: serve NAME, hold NAME COUNT, or flood SOCKET KIND. It writes a line when it
 * is ready and ends with its standard input.
 */
import { readSync, writeSync } from "node:fs";
import { type BorrowedFd, constants, pipe, poll, recvmsg, SyscallError, sendmsg, socketpair } from "../ffi/mod.ts";
import type { Channel } from "../lib/channel/channel.ts";
import { BrokerLink } from "../lib/client/broker-link.ts";
import { ClosedError } from "../lib/errors.ts";
import { INTERFACES } from "../lib/protocol/shmlink-v1.gen.ts";
import { message, RawPeer, text } from "../test/helpers/raw-peer.ts";

/** Bytes of each of the many rings: the smallest, a page. */
const SMALL = 4096;
/** Channels that a server keeps of those who dial and leave. */
const KEPT = 64;
const BYTE: Uint8Array = new Uint8Array(1);

function say(word: string | number): void {
  writeSync(1, `${word}\n`);
}

/** One byte. Whoever dials may have taken it and left before the doorbell is rung. */
function answer(channel: Channel): void {
  try {
    channel.send(BYTE);
  } catch (error) {
    if (!(error instanceof ClosedError)) throw error;
  }
}

/** @param keptCount  channels that stay open at a time, the oldest go */
function serve(name: string, keptCount: number, answers: boolean): void {
  const link = BrokerLink.connect({ name: "bench", reconnect: false });
  const service = link.listen(name, { capacity: SMALL });
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

/** Opcodes of shmlink_manager_v1 and shmlink_offer_v1. */
const DIAL = opcode("shmlink_manager_v1", "dial");
const OFFER = opcode("shmlink_manager_v1", "offer");
const ADD = opcode("shmlink_offer_v1", "add");
const PUBLISH = opcode("shmlink_offer_v1", "publish");

function opcode(name: "shmlink_manager_v1" | "shmlink_offer_v1", request: string): number {
  return INTERFACES[name].requests.findIndex((each) => each.name === request);
}

function repeated(...parts: readonly Uint8Array[]): Uint8Array {
  const one = parts.flatMap((part) => [...part]);
  return new Uint8Array(Array.from({ length: Math.floor(24_000 / one.length) }, () => one).flat());
}

/** Requests without end, as many as the socket takes. @param reads  whether it wants the answers */
function send(peer: RawPeer, bytes: Uint8Array, fds: readonly BorrowedFd[], reads: boolean): never {
  const wanted = reads ? constants.EPOLLIN | constants.EPOLLOUT : constants.EPOLLOUT;
  for (;;) {
    const [events = 0] = poll([{ fd: peer.fd, events: wanted }], 100);
    if ((events & constants.EPOLLOUT) !== 0) sendmsg(peer.fd, bytes, fds);
    if ((events & constants.EPOLLIN) !== 0) recvmsg(peer.fd);
  }
}

/** @throws Error for one whom the rules do not let in: his flood would be another one than it is called */
function checkLetIn(path: string): void {
  using peer = new RawPeer(path);
  peer.send(message(1, 0, 2));
  if (peer.next()?.sender !== 2) throw new Error("Cannot flood: the broker does not let us in");
}

/** What somebody can do without end; who is thrown out for it comes again. */
function flood(path: string, kind: string): void {
  if (kind === "apart") return floodOurselves();
  checkLetIn(path);
  say("ready");
  for (;;) {
    try {
      using peer = new RawPeer(path);
      if (kind === "connections") continue;
      if (kind === "messages" || kind === "unread") send(peer, repeated(message(1, 0, 2)), [], kind === "messages");
      peer.greet();
      if (kind === "refused") send(peer, repeated(message(3, DIAL, 4, ...text("nobody"), 0), message(4, 0)), [], true);
      sendDescriptors(peer);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error; // thrown out, or the backlog is full
    }
  }
}

/** The same work on our own processor, and nobody else has any of it. */
function floodOurselves(): never {
  const [ours, theirs] = socketpair(constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
  const bytes = repeated(message(1, 0, 2));
  say("ready");
  for (;;) {
    sendmsg(ours, bytes);
    recvmsg(theirs);
  }
}

function sendDescriptors(peer: RawPeer): never {
  const fds = Array.from({ length: 28 }, () => pipe().reader);
  peer.send(message(3, OFFER, 4, ...text("flood")));
  const bundle = [...fds.map(() => message(4, ADD)), message(4, PUBLISH, 0)];
  return send(peer, new Uint8Array(bundle.flatMap((part) => [...part])), fds, true);
}

const [mode, subject = "", count = "0"] = process.argv.slice(2);
if (mode === "serve") serve(subject, KEPT, true);
else if (mode === "keep") serve(subject, Number.POSITIVE_INFINITY, false);
else if (mode === "hold") hold(subject, Number(count));
else if (mode === "flood") flood(subject, count);
