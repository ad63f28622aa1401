/**
 * Questions and answers, each waited for before the next one is asked: the answer is the question. Either end is a process
 * of its own, run by `shmlink demo --relay`, over a channel, a Unix socket or loopback TCP.
 */
import { readFileSync } from "node:fs";
import { type OwnedFd, read } from "../../../ffi/mod.ts";
import type { Channel } from "../../channel/channel.ts";
import { BrokerLink } from "../../client/broker-link.ts";
import { printText } from "../output.ts";
import { CommandFailure } from "../report-error.ts";
import { median } from "./median.ts";
import { acceptOne, connectWaiting, writeAll } from "./plain-socket.ts";

/** Before a service's name, where others have a path or a port. */
export const CHANNEL = "channel:";
const MAX_BYTES = 4096; // of a question
/** Until the compilers have done with it. */
const WARM_UP_ROUNDS = 20;
const ROUNDS = 11;
const WAIT_MS = 5000;

interface Wire extends Disposable {
  send(bytes: Uint8Array): void;
  /** Waits. @returns how many bytes are in `into` now, none at the end */
  receive(into: Uint8Array): number;
}

/** Sends back what comes, until the other side ends. @param where  CHANNEL and a name, a path, or a port of 127.0.0.1 */
export function answer(where: string): void {
  using wire = where.startsWith(CHANNEL) ? acceptChannel(where.slice(CHANNEL.length)) : socketWire(acceptOne(where));
  const into = new Uint8Array(MAX_BYTES);
  for (let length = wire.receive(into); length > 0; length = wire.receive(into)) wire.send(into.subarray(0, length));
}

/** Asks each line of stdin several times over, and prints how many nanoseconds a question takes: the median of the rounds.
 *  @throws CommandFailure when an answer is another one */
export function ask(where: string): void {
  const questions = readFileSync(0, "latin1").split("\n").filter(Boolean);
  const asked = questions.map((text) => new Uint8Array(Buffer.from(text, "latin1")));
  using wire = where.startsWith(CHANNEL) ? dialChannel(where.slice(CHANNEL.length)) : socketWire(connectWaiting(where));
  const into = new Uint8Array(MAX_BYTES);
  for (const question of asked) check(question, into, exchange(wire, question, into));
  const times: number[] = [];
  for (let round = 0; round < WARM_UP_ROUNDS + ROUNDS; round++) {
    const start = performance.now();
    for (const question of asked) exchange(wire, question, into);
    if (round >= WARM_UP_ROUNDS) times.push(performance.now() - start);
  }
  printText(`${Math.round((median(times) * 1e6) / asked.length)}\n`);
}

function exchange(wire: Wire, question: Uint8Array, into: Uint8Array): number {
  wire.send(question);
  let length = wire.receive(into);
  while (length < question.length) {
    const more = wire.receive(into.subarray(length)); // a stream may give a part
    if (more === 0) throw new CommandFailure("Cannot go on: who answers has ended early");
    length += more;
  }
  return length;
}

function check(question: Uint8Array, into: Uint8Array, length: number): void {
  if (Buffer.compare(question, into.subarray(0, length)) === 0) return;
  throw new CommandFailure(`Cannot trust the answers: "${Buffer.from(question)}" came back as something else`);
}

function acceptChannel(name: string): Wire {
  const link = connectToBroker();
  const channel = link.listen(name).accept(WAIT_MS);
  if (channel === undefined) throw new CommandFailure("Cannot go on: nobody has dialled");
  return channelWire(link, channel);
}

function dialChannel(name: string): Wire {
  const link = connectToBroker();
  return channelWire(link, link.dial(name, { waitMs: WAIT_MS }));
}

function connectToBroker(): BrokerLink {
  return BrokerLink.connect({ name: "shmlink demo", reconnect: false });
}

function channelWire(link: BrokerLink, channel: Channel): Wire {
  return {
    send: (bytes) => {
      channel.send(bytes);
    },
    receive: (into) => Math.max(0, channel.receiveInto(into)), // -1 at the end
    [Symbol.dispose]: () => {
      channel.close();
      link.close();
    },
  };
}

function socketWire(socket: OwnedFd): Wire {
  return {
    send: (bytes) => writeAll(socket, bytes),
    receive: (into) => read(socket, into) ?? 0, // never null: it blocks
    [Symbol.dispose]: () => socket.close(),
  };
}
