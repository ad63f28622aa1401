import { expect, test } from "bun:test";
import { plainText } from "../../../lib/broker/plain-text.ts";

test("plainText() keeps ordinary text as it is", () => {
  expect(plainText("/usr/bin/päth", 64)).toBe("/usr/bin/päth");
});

test("plainText() replaces what would steer a terminal", () => {
  expect(plainText("a\u001b[2Jb\u009b\nc", 64)).toBe("a?[2Jb??c");
});

test("plainText() cuts at a character's end, never inside one", () => {
  expect(plainText("ab€", 4)).toBe("ab");
  expect(plainText("ab€", 5)).toBe("ab€");
});
