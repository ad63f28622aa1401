import { expect, test } from "bun:test";
import { constants, getsockopt, setSendTimeout, socket } from "../../../ffi/mod.ts";

const { AF_UNIX, SO_SNDTIMEO, SOCK_STREAM, SOL_SOCKET } = constants;

/** What the kernel keeps, in whole seconds: it counts in ticks. */
function keptSeconds(timeoutMs: number): number {
  using fd = socket(AF_UNIX, SOCK_STREAM);
  setSendTimeout(fd, timeoutMs);
  const timeval = new DataView(getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, 16).slice().buffer);
  return Math.round(Number(timeval.getBigInt64(0, true)) + Number(timeval.getBigInt64(8, true)) / 1e6);
}

test("setSendTimeout() takes less than a microsecond below a whole second for that second", () => {
  expect([9999.9996, 9999.9989, 10_000, 999.9999, 0].map(keptSeconds)).toEqual([10, 10, 10, 1, 0]);
});
