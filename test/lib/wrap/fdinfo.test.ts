import { expect, test } from "bun:test";
import { constants, fcntl, open, setNonBlocking, socket } from "../../../ffi/mod.ts";
import { Fdinfo, parseFlags } from "../../../lib/wrap/fdinfo.ts";

const { AF_INET, F_SETFD, O_CLOEXEC, O_NONBLOCK, O_RDONLY, SOCK_STREAM } = constants;

test("parseFlags() reads the second line, whatever comes after it, and nothing that was cut off", () => {
  const parse = (text: string): number | undefined => parseFlags(Buffer.from(text), text.length);
  expect(parse("pos:\t0\nflags:\t02004002\nmnt_id:\t9\n")).toBe(0o2004002);
  expect(parse("pos:\t12345678901234567890\nflags:\t00\ntfd: 7")).toBe(0);
  expect(parse("pos:\t0\nflags:\t0200")).toBeUndefined();
  expect(parse("pos:\t0\n")).toBeUndefined();
  expect(parse("")).toBeUndefined();
});

test("Fdinfo shows what a number means at the time, after changes, after it was closed and used again", () => {
  using fdinfo = new Fdinfo(2);
  const flags = (number: number): number | undefined => fdinfo.flags(process.pid, number);
  const first = socket(AF_INET, SOCK_STREAM);
  const { number } = first;
  expect(flags(number)).toBe(O_CLOEXEC | constants.O_RDWR);
  setNonBlocking(first, true);
  fcntl(first, F_SETFD, 0);
  expect(flags(number)).toBe(O_NONBLOCK | constants.O_RDWR);
  first.close();
  expect(flags(number)).toBeUndefined();
  using again = open("/dev/null", O_RDONLY);
  expect(again.number).toBe(number);
  const kept = flags(number) ?? 0;
  expect(kept & (O_CLOEXEC | constants.O_RDWR)).toBe(O_CLOEXEC); // open(2) adds O_LARGEFILE
  for (const other of [0, 1, 2]) expect(flags(other)).toBeNumber(); // more than it keeps
  expect(flags(number)).toBe(kept);
});
