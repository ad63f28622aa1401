import { expect, spyOn, test } from "bun:test";
import { newShare } from "../../../lib/broker/flood-share.ts";
import { eachInTurns } from "../../../lib/broker/in-turns.ts";

const WHO = { uid: 1, pid: 1, gid: 1, groups: [], exe: "", cgroup: "", context: undefined };

/** Turns that are taken by hand. */
function turns(): {
  readonly waiting: (() => void)[];
  readonly floodTurns: Parameters<typeof eachInTurns>[0]["floodTurns"];
} {
  const waiting: (() => void)[] = [];
  return { waiting, floodTurns: { shareOf: () => newShare(), await: (_, act) => void waiting.push(act) } };
}

function takeLong(): void {
  for (const untilMs = performance.now() + 2; performance.now() < untilMs; );
}

test("eachInTurns() leaves what takes long for turns, one after the other, and says when it is done", () => {
  const { waiting, floodTurns } = turns();
  const seen: (number | "done")[] = [];
  const act = (one: number): void => {
    takeLong();
    seen.push(one);
  };
  eachInTurns({ floodTurns }, WHO, [1, 2, 3], { act, done: () => seen.push("done") });
  expect(seen).toEqual([1]);
  waiting.shift()?.();
  expect(seen).toEqual([1, 2]);
  while (waiting.length > 0) waiting.shift()?.();
  expect(seen).toEqual([1, 2, 3, "done"]);
});

test("eachInTurns() of nothing is done at once", () => {
  const { waiting, floodTurns } = turns();
  let isDone = false;
  eachInTurns({ floodTurns }, WHO, [], { act: takeLong, done: () => (isDone = true) });
  expect([isDone, waiting.length]).toEqual([true, 0]);
});

test("eachInTurns() gets one done in each turn, however late it is", () => {
  const { waiting, floodTurns } = turns();
  const seen: number[] = [];
  let nowMs = 0;
  const clock = spyOn(performance, "now").mockImplementation(() => (nowMs += 1000));
  try {
    eachInTurns({ floodTurns }, WHO, [1, 2, 3], { act: (one) => seen.push(one) });
    expect(seen).toEqual([1]);
    waiting.shift()?.();
    expect(seen).toEqual([1, 2]);
  } finally {
    clock.mockRestore();
  }
});

test("eachInTurns() asks for no more when one says that it is enough", () => {
  const { waiting, floodTurns } = turns();
  const asked: number[] = [];
  function* all(): Generator<number> {
    for (let one = 1; ; one++) {
      asked.push(one);
      yield one;
    }
  }
  let isDone = false;
  eachInTurns({ floodTurns }, WHO, all(), {
    act: (one) => (one === 3 ? "enough" : undefined),
    done: () => (isDone = true),
  });
  expect([asked, isDone, waiting.length]).toEqual([[1, 2, 3], true, 0]);
});
