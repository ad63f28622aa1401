/** One descriptor that several close: it goes with the last of them. */
import { expect, test } from "bun:test";
import { fstat, memfdCreate } from "../../../ffi/mod.ts";
import { shareFd } from "../../../lib/broker/shared-fd.ts";
import { expectNoFdLeaks } from "../../helpers/fd-leak.ts";

expectNoFdLeaks();

test("a shared descriptor is open until the last one has closed it, and each may close twice", () => {
  const fd = memfdCreate("shared");
  const shares = shareFd(fd, 3);
  const last = shares.pop();
  if (last === undefined) throw new Error("Nothing was shared");
  for (const share of [...shares, ...shares]) share.close();
  expect(fstat(last).sizeBytes).toBe(0);
  expect(fd.closed).toBe(false);
  last.close();
  expect(fd.closed).toBe(true);
});

test("a copy of a shared descriptor is its owner's alone", () => {
  const fd = memfdCreate("shared");
  const shares = shareFd(fd, 2);
  const copy = shares[0]?.dup();
  for (const share of shares) share.close();
  expect(fd.closed).toBe(true);
  if (copy === undefined) throw new Error("Nothing was copied");
  expect(fstat(copy).sizeBytes).toBe(0);
  copy.close();
});
