import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  connectionName,
  isMarkerName,
  listenerPath,
  markerName,
  parseConnectionName,
  parseListenerPath,
  shapeOf,
} from "../../../lib/wrap/names.ts";

const host = fc.oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 }));
const endpoint = fc.record({ host: host.map((bytes) => Uint8Array.from(bytes)), port: fc.nat(65535) });
const domain = fc.constantFrom(4 as const, 6 as const);

test("a connection's name reads back and fits in sun_path", () => {
  fc.assert(
    fc.property(domain, endpoint, endpoint, (kind, client, server) => {
      const name = connectionName({ domain: kind, client, server });
      expect(name.length).toBeLessThanOrEqual(107);
      expect(parseConnectionName(name)).toEqual({ domain: kind, client, server });
    }),
  );
});

test("a listener's path reads back", () => {
  fc.assert(
    fc.property(domain, endpoint, fc.nat(), (kind, local, serial) => {
      const path = listenerPath("/run/user/1000/shmlink/tcp", { domain: kind, local }, 4711, serial);
      expect(parseListenerPath(path)).toEqual({ domain: kind, local });
    }),
  );
});

test("names of other programs are not taken for ours", () => {
  for (const name of [
    "",
    "/run/x.sock",
    "@shmlink/4/1.2.3.4/1.2.3.4-1",
    "@shmlink/5/1.2.3.4-1/1.2.3.4-1",
    "/a/4-x-1-2-3.tcp",
  ]) {
    expect(shapeOf(name, "", () => 1)).toBeUndefined();
  }
});

test("both ends of a connection show the same 4-tuple", () => {
  const client = { host: Uint8Array.of(127, 0, 0, 1), port: 40000 };
  const server = { host: Uint8Array.of(127, 0, 0, 1), port: 80 };
  const name = connectionName({ domain: 6, client, server });
  const path = listenerPath("/x", { domain: 4, local: { host: new Uint8Array(4), port: 80 } }, 1, 1);
  const ours = shapeOf(name, path, () => 0);
  const theirs = shapeOf(path, name, () => 0);
  expect(ours).toEqual({ kind: "client", domain: 6, local: client, remote: server });
  expect(theirs).toEqual({ kind: "accepted", domain: 4, local: server, remote: client });
});

test("a peer without a TCP address looks like one on the loopback interface", () => {
  const path = listenerPath("/x", { domain: 4, local: { host: new Uint8Array(4), port: 80 } }, 1, 1);
  const shape = shapeOf(path, "", () => 33333);
  expect(shape?.local).toEqual({ host: Uint8Array.of(127, 0, 0, 1), port: 80 });
  expect(shape?.remote).toEqual({ host: Uint8Array.of(127, 0, 0, 1), port: 33333 });
  expect(shapeOf(path, undefined, () => 0)?.kind).toBe("listener");
});

test("a marker is known by its supervisor's token only", () => {
  expect(isMarkerName(markerName("abc", 7), "abc")).toBe(true);
  expect(isMarkerName(markerName("abc", 7), "abd")).toBe(false);
});
