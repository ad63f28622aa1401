import { expect, test } from "bun:test";
import fc from "fast-check";
import { constants, inetAddress } from "../../../ffi/mod.ts";
import { type Endpoint, type Host, mapHost, unmapHost } from "../../../lib/wrap/host.ts";
import {
  connectionName,
  isMarkerName,
  listenerPath,
  markerName,
  parseConnectionName,
  parseListenerPath,
  shapeOf,
} from "../../../lib/wrap/names.ts";

const hostOf = (length: number): fc.Arbitrary<Host> =>
  fc
    .uint8Array({ minLength: length, maxLength: length })
    .map((bytes) => Uint8Array.from(bytes))
    .filter((bytes) => unmapHost(bytes).length === length);
const endpointOf = (length: number): fc.Arbitrary<Endpoint> => fc.record({ host: hostOf(length), port: fc.nat(65535) });
/** A socket's domain, and how long the hosts are that it may show. */
const kindAndLength = fc.constantFrom([4, 4] as const, [6, 4] as const, [6, 16] as const);

test("a connection's name reads back and fits in sun_path", () => {
  fc.assert(
    fc.property(
      kindAndLength,
      endpointOf(4),
      endpointOf(4),
      endpointOf(16),
      endpointOf(16),
      ([kind, length], ...ends) => {
        const [client, server] = ends.filter(({ host }) => host.length === length) as [Endpoint, Endpoint];
        const name = connectionName({ domain: kind, client, server });
        expect(name.length).toBeLessThanOrEqual(107);
        expect(parseConnectionName(name)).toEqual({ domain: kind, client, server });
      },
    ),
  );
});

test("a listener's path reads back", () => {
  fc.assert(
    fc.property(kindAndLength, endpointOf(4), endpointOf(16), fc.nat(), ([kind, length], four, six, serial) => {
      const local = length === 4 ? four : six;
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

test("whatever a socket is called, no socket shows an address that its family has not", () => {
  const text = fc.constantFrom("127.0.0.1", "::1", "::ffff:127.0.0.1", "10.9.8.7", "::", "0.0.0.0", "x", "1.2.3");
  const peer = fc
    .tuple(fc.constantFrom("4", "6"), text, text)
    .map(([kind, client, server]) => `@shmlink/${kind}/${client}-5/${server}-28920`);
  const own = fc.oneof(
    peer,
    fc.tuple(fc.constantFrom("4", "6"), text).map(([kind, local]) => `/x/${kind}-${local}-80-1-1.tcp`),
  );
  fc.assert(
    fc.property(own, fc.option(peer, { nil: undefined }), (name, theirs) => {
      const shape = shapeOf(name, theirs, () => 1);
      if (shape === undefined) return;
      for (const end of [shape.local, shape.remote]) {
        if (end === undefined) continue;
        const family = shape.domain === 4 ? constants.AF_INET : constants.AF_INET6;
        expect(inetAddress({ family, host: mapHost(end.host, shape.domain === 6), port: end.port }).length).toBe(
          shape.domain === 4 ? 16 : 28,
        );
      }
    }),
    { numRuns: 2000 },
  );
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
