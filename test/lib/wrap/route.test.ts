import { expect, test } from "bun:test";
import { connect, constants, listen, socket } from "../../../ffi/mod.ts";
import { LOOPBACK_V4 } from "../../../lib/wrap/host.ts";
import { everySecondPort, nextPort } from "../../../lib/wrap/route.ts";
import { localEndpoint, socketAddress } from "../../../lib/wrap/socket.ts";

test("nextPort() gives each of its ports in turn, but for the server's own", () => {
  for (const isMapped of [false, true]) {
    const { first, count } = everySecondPort(isMapped);
    const server = first + 10;
    const given = Array.from({ length: count - 1 }, () => nextPort(isMapped, server));
    const all = Array.from({ length: count }, (_, index) => first + 2 * index);
    expect(given.toSorted((a, b) => a - b)).toEqual(all.filter((port) => port !== server));
  }
});

test("connect(2) over TCP takes ports of the half that only mapped addresses get", () => {
  using listener = socket(constants.AF_INET, constants.SOCK_STREAM);
  using client = socket(constants.AF_INET, constants.SOCK_STREAM);
  listen(listener, 1);
  connect(client, socketAddress(4, { host: LOOPBACK_V4, port: localEndpoint(listener).port }));
  const { port } = localEndpoint(client);
  expect((port - everySecondPort(true).first) % 2).toBe(0);
  expect((port - everySecondPort(false).first) % 2).not.toBe(0);
});
