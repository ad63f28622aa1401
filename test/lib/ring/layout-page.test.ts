/** One layout told in three places: the code, the page from which a peer can be written, and the C header. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as layout from "../../../lib/ring/layout.ts";
import { ROOT } from "../../helpers/runtimes.ts";

/** Bytes from the start of the file, by the C header's names. */
function ofCode(): Map<string, number> {
  const words = Object.entries(layout).filter(
    ([name, value]) =>
      typeof value === "number" && value >= layout.TAIL && /^(TAIL|HEAD|STATE|\w+_WAKE|COLD_\w+)$/.test(name),
  );
  return new Map(words.map(([name, word]) => [name.replace("COLD_", ""), (word as number) * 4]));
}

function ofPage(): Map<string, number> {
  const page = readFileSync(join(ROOT, "docs/ring-layout.md"), "utf8");
  const section = /## Control page[^\n]*\n([\s\S]*?)\n## /.exec(page)?.[1] ?? "";
  const rows = [...section.matchAll(/^\| (\d+) \| u\d+ \| ([\w -]+) \|/gm)];
  return new Map(rows.map(([, at, name = ""]) => [name.toUpperCase().replace("-", "").replace(" ", "_"), Number(at)]));
}

function ofHeader(): Map<string, number> {
  const header = readFileSync(join(ROOT, "ffi/include/shmlink.h"), "utf8");
  const places = /Places in the control page[^\n]*\nenum \{([\s\S]*?)\}/.exec(header)?.[1] ?? "";
  return new Map([...places.matchAll(/SHMLINK_(\w+) = (\d+)/g)].map(([, name = "", at]) => [name, Number(at)]));
}

test("the control page has the same places in the code, the page and the C header", () => {
  const [code, page] = [ofCode(), ofPage()];
  page.delete("SCRATCH"); // a side's own
  expect(code.size).toBe(12);
  expect(page).toEqual(code);
  expect(ofHeader()).toEqual(code);
});
