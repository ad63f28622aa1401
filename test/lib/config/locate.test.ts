import { expect, test } from "bun:test";
import { locate } from "../../../lib/config/locate.ts";

const DOCUMENT = `top = 1
text = """
[not.a.table]
key = "no"
""" # end
list = [
  "a ] b", # ]
  { x = 1 },
]
[a]
  b.c = 1
"q.r" = 'it''s'
[a.d]
e = "[x]"
[[many]]
k = 1
[many.sub]
s = '''
[[many]]'''
[[many]]
k = 2
`;

test("locate() finds keys and tables by line and column", () => {
  const cases: [(string | number)[], number, number][] = [
    [["top"], 1, 1],
    [["list"], 6, 1],
    [["a"], 10, 1],
    [["a", "b", "c"], 11, 3],
    [["a", "q.r"], 12, 1],
    [["a", "d", "e"], 14, 1],
    [["many", 0, "k"], 16, 1],
    [["many", 0, "sub", "s"], 18, 1],
    [["many", 1], 20, 1],
    [["many", 1, "k"], 21, 1],
  ];
  for (const [path, line, column] of cases) expect(locate(DOCUMENT, path)).toEqual({ line, column });
});

test("locate() falls back on what is around a key, and on nothing", () => {
  expect(locate(DOCUMENT, ["many", 1, "missing"])).toEqual({ line: 20, column: 1 });
  expect(locate(DOCUMENT, ["list", 1, "x"])).toEqual({ line: 6, column: 1 });
  expect(locate(DOCUMENT, ["not", "a", "table"])).toBeUndefined();
});
