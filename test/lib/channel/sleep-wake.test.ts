/**
 * No wake-up is lost, in whatever order two processors with store buffers do the steps of two real channel ends; and it
 * would be noticed: one plain store for an atomic one, or one look less, and somebody sleeps for ever. So it is with the
 * machine code that both ends have on Bun.
 */
import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { buildCLibrary, C_COMPILER } from "../../fixtures/c/build.ts";
import { requires } from "../../helpers/requires.ts";
import { ExploredMachine } from "./explored-machine.ts";
import { RealSide, type Scene, type SideOptions } from "./real-side.ts";
import type { ControlWord } from "./shared-words.ts";
import { type Exploration, type ExploreOptions, explore } from "./store-buffers.ts";

type Program = SideOptions["program"];
type Shape = {
  readonly capacity: number;
  readonly payload: number;
  readonly left: Program;
  readonly right: Program;
  /** With machine code on both sides. */
  readonly machine?: boolean;
  /** What both programs return. */
  readonly results: readonly [number, number];
};

const LIMIT_MS = 120_000; // a hundred thousand states on a busy machine
const END = 1000; // added to a count: the end was received

function send(count: number, length = 0, end = true): Program {
  return ({ channel, mark }) => {
    const bytes = new Uint8Array(length);
    for (let sent = 0; sent < count; sent++) {
      mark(sent);
      channel.send(bytes);
    }
    mark(count);
    if (end) channel.end();
    return count;
  };
}

function sendBatches(count: number, size: number): Program {
  return ({ channel, mark }) => {
    const batch = Array.from({ length: size }, () => new Uint8Array(0));
    for (let sent = 0; sent < count; sent += size) {
      mark(sent);
      channel.sendBatch(batch);
    }
    mark(count);
    channel.end();
    return count;
  };
}

function receive(count = Number.POSITIVE_INFINITY): Program {
  return ({ channel, mark }) => {
    let received = 0;
    for (; received < count; received++) {
      mark(received);
      if (channel.receive() === undefined) return END + received;
    }
    return received;
  };
}

function receiveInto({ channel, mark }: Scene): number {
  const into = new Uint8Array(64);
  for (let received = 0; ; received++) {
    mark(received);
    if (channel.receiveInto(into) < 0) return END + received;
  }
}

function receiveMany({ channel, mark }: Scene): number {
  const into = new Uint8Array(64);
  for (let received = 0; ; ) {
    mark(received);
    const some = channel.receiveEach(into, 4, () => undefined);
    if (some === 0) return END + received;
    received += some;
  }
}

/** As an event loop does it, which takes bytes off the doorbell that nobody waits for. */
function sendInTurns(count: number): Program {
  return ({ channel, mark, turn, sleep }) => {
    const bytes = new Uint8Array(0);
    for (let sent = 0; sent < count; ) {
      mark(sent);
      turn();
      if (channel.trySend(bytes)) sent++;
      else if (channel.armSend(bytes.length)) sleep();
    }
    mark(count);
    channel.end();
    return count;
  };
}

function receiveInTurns({ channel, mark, turn, sleep }: Scene): number {
  for (let received = 0; ; ) {
    mark(received);
    turn();
    if (channel.tryReceive() !== undefined) received++;
    else if (channel.ended) return END + received;
    else if (channel.armReceive()) sleep();
  }
}

/** Of four bytes each. */
function sendPacked(count: number, size: number): Program {
  return ({ channel, mark }) => {
    const batch = new Uint8Array(4 * size);
    for (let sent = 0; sent < count; sent += size) {
      mark(sent);
      channel.sendPacked(batch, 4);
    }
    mark(count);
    channel.end();
    return count;
  };
}

function receivePacked({ channel, mark }: Scene): number {
  const into = new Uint8Array(12);
  for (let received = 0; ; ) {
    mark(received);
    const some = channel.receivePacked(into, 4);
    if (some === 0) return END + received;
    received += some;
  }
}

function ask(count: number): Program {
  return ({ channel, mark }) => {
    const bytes = new Uint8Array(0);
    for (let asked = 0; asked < count; asked++) {
      mark(asked);
      channel.send(bytes);
      channel.send(bytes);
      mark(asked, 1);
      channel.receive();
    }
    mark(count);
    channel.end();
    return count;
  };
}

function answer({ channel, mark }: Scene): number {
  const bytes = new Uint8Array(0);
  for (let answered = 0; ; answered++) {
    mark(answered);
    if (channel.receive() === undefined) return END + answered;
    if (answered % 2 === 1) channel.send(bytes);
  }
}

const SHAPES: Record<string, Shape> = {
  "a ring of two records": shape(16, send(5), receive(), 5),
  "a ring of four records with payload": { ...shape(64, send(6, 8), receive(), 6), payload: 8 },
  "a sender that is woken for several": shape(64, send(10), receive(), 10),
  "a receiver that tells of its room late": shape(128, sendBatches(20, 10), receiveInto, 20),
  "batches, published together": shape(32, sendBatches(8, 4), receiveMany, 8),
  "event loops": shape(32, sendInTurns(6), receiveInTurns, 6),
  "an event loop that reads what blocking calls send": shape(32, send(6), receiveInTurns, 6),
  "no end that would wake a sleeper": { ...shape(16, send(6, 0, false), receive(6), 6), results: [6, 6] },
  "questions and answers": { ...shape(16, ask(4), answer, 8), results: [4, END + 8] },
};

/** The same ends where machine code does what it can: from the third message of a buffer on. */
const MACHINE_SHAPES: Record<string, Shape> = {
  "a ring of two records": { ...shape(16, send(5), receiveInto, 5), machine: true },
  "a ring of four records with payload": { ...shape(64, send(6, 8), receiveInto, 6), payload: 8, machine: true },
  "packed messages": { ...shape(32, sendPacked(4, 2), receivePacked, 4), payload: 4, machine: true },
};

function shape(capacity: number, left: Program, right: Program, count: number): Shape {
  return { capacity, payload: 0, left, right, results: [count, END + count] };
}

type Change = Pick<SideOptions, "forgets"> & Pick<ExploreOptions, "plain" | "queues">;

function run(shape: Shape, change: Change = {}): Exploration {
  const { capacity, payload, left, right, results } = shape;
  const { forgets, ...options } = change;
  const machine = shape.machine ? theMachine() : undefined;
  const sides = [
    new RealSide({ side: 0, capacity, payload, program: left, forgets, machine }),
    new RealSide({ side: 1, capacity, payload, program: right, forgets, machine }),
  ] as const;
  const check = (found: readonly number[]): string | undefined =>
    found.join() === results.join() ? undefined : `returned ${found.join()} for ${results.join()}`;
  return explore(sides, { ...options, check });
}

let built: ExploredMachine | undefined;
function theMachine(): ExploredMachine {
  if (built !== undefined) return built;
  const directory = mkdtempSync("/tmp/shmlink-explored-");
  built = new ExploredMachine(buildCLibrary("explored-path", directory));
  rmSync(directory, { recursive: true });
  return built;
}

describe("no wake-up is lost", () => {
  for (const [name, shape] of Object.entries(SHAPES)) {
    test(
      `with ${name}`,
      () => {
        const { failure, states } = run(shape);
        expect(failure).toBeUndefined();
        expect(states).toBeGreaterThan(1000);
      },
      LIMIT_MS,
    );
  }
});

describe.skipIf(process.arch !== "x64")("no wake-up is lost in machine code", () => {
  for (const [name, shape] of Object.entries(MACHINE_SHAPES)) {
    requires.test(
      [C_COMPILER],
      `with ${name}`,
      () => {
        const before = theMachine().calls;
        const { failure, states } = run(shape);
        expect(failure).toBeUndefined();
        expect(states).toBeGreaterThan(500);
        expect(theMachine().calls - before).toBeGreaterThan(100);
      },
      LIMIT_MS,
    );
  }

  for (const plain of ["TAIL", "HEAD"] as const) {
    requires.test(
      [C_COMPILER],
      `but is when it stores ${plain} plainly`,
      () => {
        expect(firstFailure({ plain }, MACHINE_SHAPES).why).toContain("sleeps for ever");
      },
      LIMIT_MS,
    );
  }
});

/** The first shape in which something goes wrong, and what. */
function firstFailure(
  change: Change,
  shapes: Readonly<Record<string, Shape>> = SHAPES,
): {
  readonly shape: Shape;
  readonly why: string;
  readonly path: readonly string[];
} {
  for (const shape of Object.values(shapes)) {
    const { failure } = run(shape, change);
    if (failure !== undefined) return { shape, ...failure };
  }
  throw new Error("Nothing goes wrong");
}

describe("a wake-up is lost", () => {
  for (const plain of ["TAIL", "HEAD", "DATA_WAKE", "SPACE_WAKE", "STATE"] satisfies ControlWord[]) {
    test(
      `when ${plain} is stored plainly, and only because of store buffers`,
      () => {
        const { shape, why } = firstFailure({ plain });
        expect(why).toContain("sleeps for ever");
        expect(run(shape, { plain, queues: false }).failure).toBeUndefined();
      },
      LIMIT_MS,
    );
  }

  for (const forgets of ["data", "space"] as const) {
    test(
      `when nobody looks again between asking for ${forgets} and sleeping`,
      () => {
        const { why, path } = firstFailure({ forgets });
        expect(why).toContain("sleeps for ever");
        expect(path.length).toBeGreaterThan(1);
      },
      LIMIT_MS,
    );
  }
});

test(
  "messages are lost when the tail is not read once more at the end",
  () => {
    expect(firstFailure({ forgets: "end" }).why).toContain("returned");
  },
  LIMIT_MS,
);
