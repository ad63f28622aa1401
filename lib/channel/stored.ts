/** How much memory may lie in a file of a given size: with huge pages for all files its last page is one of them. */
import { readdirSync, readFileSync } from "node:fs";

const SMALLEST_PAGE = 65536; // of any processor that we run on: what is rounded to it is too little to hide anything in
const SETTINGS = "/sys/kernel/mm/transparent_hugepage";
/** The values with which the kernel asks neither the size of a file nor its owner. */
const ALWAYS = /\[(always|force)\]/;

let unit: number | undefined;

export function mostStored(sizeBytes: number): number {
  unit ??= Math.max(SMALLEST_PAGE, hugePageOf(readSetting));
  return Math.ceil(sizeBytes / unit) * unit;
}

/** @param read  a setting of the kernel; empty where it has none  @returns bytes; 0 where small files have small pages */
export function hugePageOf(read: (name: string) => string, sizes: readonly string[] = listSizes()): number {
  const isAlways = ALWAYS.test(read("shmem_enabled"));
  let bytes = isAlways ? Number(read("hpage_pmd_size")) : 0;
  for (const size of sizes) {
    const own = read(`${size}/shmem_enabled`);
    const kib = Number(/^hugepages-(\d+)kB$/.exec(size)?.[1] ?? 0);
    if (ALWAYS.test(own) || (isAlways && own.includes("[inherit]"))) bytes = Math.max(bytes, kib * 1024);
  }
  return bytes;
}

function readSetting(name: string): string {
  try {
    return readFileSync(`${SETTINGS}/${name}`, "latin1").trim();
  } catch {
    return ""; // a kernel without it
  }
}

function listSizes(): string[] {
  try {
    return readdirSync(SETTINGS).filter((name) => name.startsWith("hugepages-"));
  } catch {
    return [];
  }
}
