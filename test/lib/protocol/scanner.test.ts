/** The scanner: what it makes, that the committed file is what it makes, and that wayland-scanner agrees with the XML. */
import { expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { main, scan } from "../../../lib/protocol/scanner.ts";
import { requires } from "../../helpers/requires.ts";

const ROOT = join(import.meta.dirname, "../../..");
const GOLDEN = join(ROOT, "test/golden");
const XML = join(ROOT, "lib/protocol/shmlink-v1.xml");

test("scan() makes tiny.gen.ts of tiny.xml", () => {
  const made = scan([join(GOLDEN, "tiny.xml")], { lib: "../../lib/" });
  expect(made).toBe(readFileSync(join(GOLDEN, "tiny.gen.ts"), "utf8"));
});

test("the committed shmlink-v1.gen.ts is what the scanner makes of the XML", () => {
  expect(main(["--check"])).toBe(0);
});

const scanner = [requires.program("wayland-scanner", "libwayland-bin")];
const compiler = [
  ...scanner,
  requires.program("cc", "gcc"),
  requires.file("/usr/include/wayland-util.h", "libwayland-dev"),
];

for (const mode of ["client-header", "server-header", "private-code"]) {
  requires.test(scanner, `wayland-scanner makes the ${mode} without a warning`, () => {
    const directory = mkdtempSync("/tmp/shmlink-scanner-");
    try {
      const output = join(directory, mode);
      const said = execFileSync("sh", [
        "-c",
        'exec wayland-scanner --strict "$1" "$2" "$3" 2>&1',
        "sh",
        mode,
        XML,
        output,
      ]);
      expect(said.toString()).toBe("");
      expect(readFileSync(output, "utf8")).toContain("shmlink_manager_v1_interface");
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
}

requires.test(compiler, "what wayland-scanner makes is C that compiles", () => {
  const pipeline = `wayland-scanner "$1" "$2" | cc -x c -Wall -Werror -fsyntax-only -`;
  for (const mode of ["client-header", "server-header", "private-code"]) {
    execFileSync("sh", ["-c", pipeline, "sh", mode, XML], { stdio: "pipe" });
  }
});
