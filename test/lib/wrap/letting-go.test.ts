import { expect, test } from "bun:test";
import { constants, duplicateFd, socket } from "../../../ffi/mod.ts";
import { LettingGo } from "../../../lib/wrap/letting-go.ts";

const tcpSocket = (): ReturnType<typeof socket> => socket(constants.AF_INET, constants.SOCK_STREAM);

test("LettingGo closes a descriptor and says that nobody has its file any more", () => {
  using lettingGo = new LettingGo();
  for (let count = 0; count < 3; count++) {
    const fd = tcpSocket();
    expect(lettingGo.close(fd)).toBeUndefined();
    expect(fd.closed).toBeTrue();
  }
});

test("LettingGo finds the duplicate of what it closed, and after reset() is right about the next", () => {
  using lettingGo = new LettingGo();
  using stranger = tcpSocket();
  const fd = tcpSocket();
  using second = duplicateFd(fd);
  const left = lettingGo.close(fd);
  expect(left?.isThat(process.pid, second.number)).toBeTrue();
  expect(left?.isThat(process.pid, stranger.number)).toBeFalse();
  expect(left?.isThat(process.pid, 100_000)).toBeFalse();
  lettingGo.reset();
  expect(lettingGo.close(tcpSocket())).toBeUndefined(); // the same number again, while the other is still open
});
