import { expect, test } from "bun:test";
import { Stock } from "../../../../lib/wrap/shortcut/stock.ts";

/** A stock with its own time. */
function scene(canMake = true): { stock: Stock; asked: boolean[]; due: (() => void)[] } {
  const asked: boolean[] = [];
  const due: (() => void)[] = [];
  const stock = new Stock({
    makeAhead: (isWished) => {
      asked.push(isWished);
      return isWished && canMake;
    },
    setTimer: (_, callback) => {
      due.push(callback);
      return { cancel: () => due.splice(due.indexOf(callback), 1) };
    },
  });
  return { stock, asked, due };
}

test("Stock has sockets made when 64 connections came within a second, and no sooner", () => {
  const { stock, asked } = scene();
  for (let nowMs = 5000; nowMs < 9000; nowMs += 100) stock.note(5, nowMs);
  expect(asked).toEqual([]);
  for (let nowMs = 9000; nowMs < 9500; nowMs += 100) stock.note(15, nowMs);
  expect(asked).toEqual([true]);
});

test("Stock keeps them while that goes on, and does away with them when it does not", () => {
  const { stock, asked, due } = scene();
  stock.note(64, 5000);
  for (let times = 0; times < 3; times++) {
    stock.note(64, 5000);
    due.pop()?.();
    expect([asked.length, due.length]).toEqual([1, 1]);
  }
  stock.note(63, 5000);
  due.pop()?.();
  expect([asked, due]).toEqual([[true, false], []]);
  stock.note(64, 9000);
  expect([asked, due.length]).toEqual([[true, false, true], 1]);
});

test("Stock asks once where there can be none, and sets no timer after its end", () => {
  const none = scene(false);
  none.stock.note(64, 5000);
  none.stock.note(64, 5000);
  expect([none.asked, none.due]).toEqual([[true], []]);
  const ended = scene();
  ended.stock.note(64, 5000);
  ended.stock[Symbol.dispose]();
  ended.stock.note(64, 5000);
  expect([ended.asked, ended.due]).toEqual([[true], []]);
});
