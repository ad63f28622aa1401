import { expect, test } from "bun:test";
import { LimitedLog } from "../../../lib/broker/log-limit.ts";
import type { Logger } from "../../../lib/log.ts";

class Lines implements Logger {
  readonly lines: string[] = [];
  readonly #add = (level: string) => (message: string) => void this.lines.push(`${level} ${message}`);
  readonly error: Logger["error"] = this.#add("error");
  readonly warn: Logger["warn"] = this.#add("warn");
  readonly info: Logger["info"] = this.#add("info");
  readonly debug: Logger["debug"] = this.#add("debug");
}

function flooded(times: number, uid: number): { log: LimitedLog; lines: string[]; wait: (ms: number) => void } {
  const kept = new Lines();
  let nowMs = 0;
  const log = new LimitedLog(kept, "info", { now: () => nowMs });
  for (let count = 0; count < times; count++) log.warn("flood", { uid });
  return { log, lines: kept.lines, wait: (ms) => (nowMs += ms) };
}

test("LimitedLog passes on what comes in moderation, at its level and with its fields", () => {
  const seen: unknown[] = [];
  const log = new LimitedLog({ ...new Lines(), info: (message, fields) => seen.push([message, fields]) }, "info");
  log.info("one", { uid: 5 });
  expect(seen).toEqual([["one", { uid: 5 }]]);
});

test("LimitedLog leaves out a user's flood, counts it, and has room for others and for later", () => {
  const { log, lines, wait } = flooded(10_000, 7);
  expect(lines).toHaveLength(500);
  log.info("somebody else", { uid: 8 });
  expect(lines.slice(500)).toEqual(["warn Left out 9500 lines: there were too many at once", "info somebody else"]);
  log.warn("flood", { uid: 7 });
  expect(lines).toHaveLength(502);
  wait(3000);
  for (let count = 0; count < 10; count++) log.warn("flood", { uid: 7 });
  expect(lines.slice(502)).toEqual([
    "warn Left out 1 line: there were too many at once",
    ...Array(3).fill("warn flood"),
  ]);
  log.tellLeftOut();
  log.tellLeftOut();
  expect(lines.slice(506)).toEqual(["warn Left out 7 lines: there were too many at once"]);
});

test("what is not written at this level uses up nobody's lines", () => {
  const { log, lines } = flooded(0, 7);
  for (let count = 0; count < 10_000; count++) log.debug("passed on", { uid: 7 });
  for (let count = 0; count < 500; count++) log.warn("refused", { uid: 7 });
  expect(lines).toEqual(Array(500).fill("warn refused"));
});

test("LimitedLog keeps to other limits than the broker's", () => {
  const kept = new Lines();
  let nowMs = 0;
  const rate = { burst: 3, perSecond: 2 };
  const log = new LimitedLog(kept, "warn", { user: rate, total: rate, now: () => nowMs });
  for (let count = 0; count < 600; count++) log.warn("flood");
  nowMs = 1000;
  for (let count = 0; count < 600; count++) log.warn("later");
  const leftOut = "warn Left out 597 lines: there were too many at once";
  expect(kept.lines).toEqual([...Array(3).fill("warn flood"), leftOut, "warn later", "warn later"]);
});

test("LimitedLog bounds what many users write together, and a line", () => {
  const { log, lines } = flooded(1, 0);
  for (let count = 0; count < 100_000; count++) log.error("x".repeat(5000), { uid: count });
  expect(lines).toHaveLength(2000);
  expect(Math.max(...lines.map(({ length }) => length))).toBeLessThan(1100);
});
