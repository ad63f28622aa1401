/** Numbers, tables and records as text. */
import { describe, expect, test } from "bun:test";
import { renderListing } from "../../../lib/cli/listing-text.ts";
import {
  formatBytes,
  formatDuration,
  parseCapacity,
  parseSeconds,
  parseSizes,
  parseWhole,
} from "../../../lib/cli/numbers.ts";
import { renderRecord } from "../../../lib/cli/record-text.ts";
import { describeOwner, toListing } from "../../../lib/cli/records.ts";
import { printable, renderTable } from "../../../lib/cli/table.ts";

test("parseCapacity() takes powers of two with any unit, and nothing else", () => {
  expect(["4096", "4K", "4k", "4KiB", "1M", "1g"].map((text) => parseCapacity(text))).toEqual([
    4096,
    4096,
    4096,
    4096,
    2 ** 20,
    2 ** 30,
  ]);
  expect(parseCapacity(undefined)).toBeUndefined();
  for (const text of ["0", "2K", "5000", "3M", "2G", "1T", "-4K", "1.5M", "K", " 4K"])
    expect(() => parseCapacity(text)).toThrow(text);
});

test("parseSizes() has what was said, and names the option that is wrong", () => {
  expect(parseSizes(undefined, undefined)).toEqual({});
  expect(parseSizes("4K", "1M")).toEqual({ capacity: 4096, maxPeerCapacity: 2 ** 20 });
  expect(() => parseSizes("4K", "5K")).toThrow('Cannot use --max-peer-capacity "5K"');
});

test("parseSeconds() and parseWhole() refuse signs, words and what is too large", () => {
  expect([parseSeconds("0", "--wait"), parseSeconds("1.5", "--wait")]).toEqual([0, 1500]);
  for (const text of ["-1", "1e3", "soon", "", "1."]) expect(() => parseSeconds(text, "--wait")).toThrow("--wait");
  expect(parseWhole("10", "--n", 10)).toBe(10);
  for (const text of ["11", "-1", "1.5", ""]) expect(() => parseWhole(text, "--n", 10)).toThrow("--n");
});

test("formatBytes() and formatDuration() keep figures short", () => {
  expect([0, 1023, 1024, 1536, 104_857_600, 2 ** 40].map(formatBytes)).toEqual([
    "0 B",
    "1023 B",
    "1.0 KiB",
    "1.5 KiB",
    "100 MiB",
    "1.0 TiB",
  ]);
  expect([0, 340, 1234, 65_000, 3_700_000].map(formatDuration)).toEqual([
    "0 ms",
    "340 ms",
    "1.2 s",
    "1 min 5 s",
    "1 h 1 min",
  ]);
});

test("renderTable() aligns words left and numbers right, and ends no line with a space", () => {
  const text = renderTable(
    ["ID", "NAME", "SIZE"],
    [
      ["1", "a", "10 B"],
      ["22", "long", "1.5 KiB"],
    ],
  );
  expect(text).toBe("  ID  NAME     SIZE\n   1  a        10 B\n  22  long  1.5 KiB\n");
});

test("printable() keeps a peer's control characters off the terminal", () => {
  expect(printable("a\u001b[2Jb\n\u009bc")).toBe("a\ufffd[2Jb\ufffd\ufffdc");
});

describe("renderListing()", () => {
  const owner = { uid: 1000, pid: 7, exe: "/usr/bin/python3.11" };
  test("names other users, and leaves sections out that are empty", () => {
    expect(describeOwner(owner, 1000)).toBe("7 python3.11");
    expect(describeOwner(owner, 0)).toBe("7 python3.11 (uid 1000)");
    const details = { port: 80, path: "/run/x", connections: { unix: 1, tcp: 2, fallback: 0 } };
    const entry = {
      kind: "listener",
      id: 3,
      name: "tcp:0.0.0.0:80",
      uid: 1000,
      pid: 7,
      exe: owner.exe,
      details,
    } as const;
    const text = renderListing(toListing([entry]), 0);
    expect(text).toStartWith("Wrapped listeners\n");
    expect(text).toContain("7 python3.11 (uid 1000)     1    2         0  /run/x");
  });
});

test("renderRecord() shows nested values, lists and units", () => {
  const text = renderRecord({
    id: 1,
    uptimeMs: 65_000,
    tcp: true,
    seals: [],
    fill: 2048,
    sub: { bytes: 10, fill: 0 },
    all: [{ a: 1 }],
  });
  expect(text).toBe(
    "id      1\nuptime  1 min 5 s\ntcp     yes\nseals   none\nfill    2.0 KiB (2048)\nsub\n  bytes  10 bytes\n  fill   0 bytes\nall 1\n  a  1\n",
  );
});

test("renderRecord() leaves texts as they are by which something is counted", () => {
  const text = renderRecord({ hugePages: 1, fallbacks: { "no MSG_ZEROCOPY for lastMs": 12, "/run/A\u001b": 3 } });
  expect(text).toBe(
    "huge pages  1 byte\nfallbacks\n  no MSG_ZEROCOPY for lastMs  12\n  /run/A\ufffd                     3\n",
  );
});
