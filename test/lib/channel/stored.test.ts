import { expect, test } from "bun:test";
import { hugePageOf, mostStored } from "../../../lib/channel/stored.ts";

function settings(values: Readonly<Record<string, string>>): (name: string) => string {
  return (name) => values[name] ?? "";
}

const NEVER = "always within_size advise [never] deny force";
const ALWAYS = "[always] within_size advise never deny force";

test("small files have small pages unless the kernel gives all of them huge ones", () => {
  expect(hugePageOf(settings({}), [])).toBe(0);
  expect(hugePageOf(settings({ shmem_enabled: NEVER, hpage_pmd_size: "2097152" }), [])).toBe(0);
  expect(hugePageOf(settings({ shmem_enabled: ALWAYS, hpage_pmd_size: "2097152" }), [])).toBe(2 << 20);
});

test("sizes with a setting of their own count by that, or inherit", () => {
  const sizes = ["hugepages-64kB", "hugepages-1024kB"];
  const own = { "hugepages-64kB/shmem_enabled": "[always] inherit never", shmem_enabled: NEVER };
  expect(hugePageOf(settings(own), sizes)).toBe(65536);
  const inherits = { "hugepages-1024kB/shmem_enabled": "always [inherit] never", shmem_enabled: ALWAYS };
  expect(hugePageOf(settings(inherits), sizes)).toBe(1 << 20);
});

test("a file may hold its size, rounded to whole pages", () => {
  expect(mostStored(8192 + 4096)).toBeGreaterThanOrEqual(8192 + 4096);
  expect(mostStored(1 << 21)).toBeGreaterThanOrEqual(1 << 21);
  expect(mostStored(0)).toBe(0);
});
