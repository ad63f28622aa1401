import { expect, test } from "bun:test";
import { posix } from "node:path";
import fc from "fast-check";
import { basename, dirname, isAbsolute, join, resolve } from "../../../lib/util/path.ts";

const word = fc.constantFrom("", "a", "bc", ".", "..", "...", ".d", "/", "//", "/e", "f/");
const path = fc.array(word, { maxLength: 6 }).chain((words) => fc.constantFrom(words.join("/"), words.join("")));

test("every path is what node:path makes of it", () => {
  fc.assert(
    fc.property(fc.array(path, { maxLength: 4 }), path, (parts, one) => {
      expect(join(...parts)).toBe(posix.join(...parts));
      expect(resolve(...parts)).toBe(posix.resolve(...parts));
      expect([dirname(one), basename(one)]).toEqual([posix.dirname(one), posix.basename(one)]);
      expect(isAbsolute(one)).toBe(posix.isAbsolute(one));
    }),
    { numRuns: 2000 },
  );
});
