/** What a benchmark's other process does to the broker without end: floods, by name. */
import { writeSync } from "node:fs";
import { type BorrowedFd, constants, pipe, poll, recvmsg, SyscallError, sendmsg, socketpair } from "../ffi/mod.ts";
import { INTERFACES } from "../lib/protocol/shmlink-v1.gen.ts";
import { Reactor } from "../lib/transport/reactor.ts";
import { message, RawPeer, text } from "../test/helpers/raw-peer.ts";

/** Connections of a crowd, and how many requests each of them has at a time: one less than fills a turn, or one. */
const CROWD = 16;
const CROWDS: Readonly<Record<string, number>> = { crowd: 31, own: 31, ones: 1 };
/** wl_callback.done and wl_display.delete_id. */
const SYNC_BYTES = 24;

export function say(word: string | number): void {
  writeSync(1, `${word}\n`);
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
export function flood(path: string, kind: string): void {
  if (kind === "apart") return floodOurselves();
  checkLetIn(path);
  const atATime = CROWDS[kind];
  if (atATime !== undefined) return crowd(path, atATime);
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

/** Connections that wait for their answers before they ask again: none of them asks for more than the broker does in a turn.
 *  @param atATime  of each */
function crowd(path: string, atATime: number): never {
  using reactor = new Reactor();
  const bytes = new Uint8Array(Array.from({ length: atATime }, () => [...message(1, 0, 2)]).flat());
  for (let index = 0; index < CROWD; index++) {
    const peer = new RawPeer(path);
    let unread = 0;
    const ask = (): void => {
      peer.send(bytes);
      unread = atATime * SYNC_BYTES;
    };
    reactor.add(peer.fd, constants.EPOLLIN, () => {
      unread -= recvmsg(peer.fd)?.bytes.length ?? 0;
      if (unread === 0) ask();
    });
    ask();
  }
  say("ready");
  for (;;) reactor.runOnce(-1);
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
