import { expect, test } from "bun:test";
import type { ListenerRecord } from "../../../lib/broker/records.ts";
import { listenerName, Registry } from "../../../lib/broker/registry.ts";

function registryWith(...listeners: readonly (readonly [address: string, port: number, v6only?: boolean])[]): Registry {
  const registry = new Registry();
  for (const [address, port, v6only = false] of listeners) {
    const record = { kind: "listener", id: registry.nextId(), address, port, v6only };
    registry.addListener(record as unknown as ListenerRecord); // what the registry looks at, and no more
  }
  return registry;
}

const nothingElse = (): boolean => false;

const cases: readonly (readonly [wanted: string, listener: string, v6only: boolean, found: boolean])[] = [
  ["127.0.0.1", "127.0.0.1", false, true],
  ["127.0.0.2", "127.0.0.1", false, false],
  ["127.0.0.1", "0.0.0.0", false, true],
  ["127.9.9.9", "0.0.0.0", false, true],
  ["0.0.0.0", "127.0.0.1", false, true],
  ["::1", "0.0.0.0", false, false],
  ["127.0.0.1", "::", false, true],
  ["127.0.0.1", "::", true, false],
  ["::1", "::", true, true],
  ["::", "::1", false, true],
  ["::ffff:127.0.0.1", "0.0.0.0", false, true],
  ["192.0.2.1", "0.0.0.0", false, false],
  ["0:0:0:0:0:0:0:1", "::1", false, true],
  ["::ffff:7f00:1", "127.0.0.1", false, true],
];

for (const [wanted, listener, v6only, found] of cases) {
  test(`resolve() of ${wanted} ${found ? "finds" : "passes over"} a listener on ${listener}${v6only ? ", v6 only" : ""}`, () => {
    const registry = registryWith([listener, 80, v6only]);
    expect(registry.resolve(wanted, 80, nothingElse) !== undefined).toBe(found);
    expect(registry.resolve(wanted, 81, nothingElse)).toBeUndefined();
  });
}

test("resolve() takes a wildcard for an address of this machine", () => {
  const registry = registryWith(["0.0.0.0", 80]);
  expect(registry.resolve("192.0.2.1", 80, (address) => address === "192.0.2.1")?.id).toBe(1);
});

test("resolve() prefers the exact address to a wildcard", () => {
  const registry = registryWith(["0.0.0.0", 80], ["127.0.0.1", 80]);
  expect(registry.resolve("127.0.0.1", 80, nothingElse)?.id).toBe(2);
});

test("select() understands ids, ports and names of listeners", () => {
  const registry = registryWith(["::1", 8080], ["127.0.0.1", 9090]);
  const ids = (selector: string): number[] => registry.select(selector).map(({ id }) => id);
  expect(ids("8080")).toEqual([1]);
  expect(ids("tcp:[::1]:8080")).toEqual([1]);
  expect(ids(listenerName("127.0.0.1", 9090))).toEqual([2]);
  expect(ids("2")).toEqual([2]);
  expect(ids("")).toEqual([]);
});

test("ids are never used twice", () => {
  const registry = registryWith(["::1", 8080]);
  const [record] = registry.listeners.values();
  if (record !== undefined) registry.removeListener(record);
  expect(registry.nextId()).toBe(2);
  expect(registry.isEmpty).toBe(true);
});
