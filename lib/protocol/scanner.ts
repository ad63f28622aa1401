/**
 * Development script: makes shmlink-v1.gen.ts from the XML beside it.
 *
 *     bun lib/protocol/scanner.ts            writes it
 *     bun lib/protocol/scanner.ts --check    fails when the committed file is not what would be written
 */
import { readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { type EmitOptions, emitModule } from "./scanner/emit.ts";
import { checkReferences, readProtocol } from "./scanner/model.ts";

const SOURCES = ["wayland-core.xml", "shmlink-v1.xml"];
const TARGET = "shmlink-v1.gen.ts";

/** The module for these files. @throws ScannerError with file and line of what is wrong in them */
export function scan(files: readonly string[], options: Pick<EmitOptions, "lib">): string {
  const interfaces = files.flatMap((file) => readProtocol(readFileSync(file, "utf8"), file));
  checkReferences(interfaces);
  return emitModule(interfaces, { sources: files.map((file) => basename(file)), ...options });
}

/** @returns the exit code */
export function main(args: readonly string[]): number {
  const here = fileURLToPath(new URL(".", import.meta.url));
  const target = here + TARGET;
  const text = scan(
    SOURCES.map((name) => here + name),
    { lib: "../" },
  );
  if (!args.includes("--check")) {
    writeFileSync(target, text);
    return 0;
  }
  if (readFileSync(target, "utf8") === text) return 0;
  process.stderr.write(`${target} is not what the XML makes: run "bun lib/protocol/scanner.ts"\n`);
  return 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = main(process.argv.slice(2));
