/**
 * Runs a program under wrap with a registry in files: `wrap-driver.ts FOLDER [--no-tcp] [--log[=FILE]] [--io-uring] [--weigh] [--rule=RULE]… -- CMD …`.
 * FOLDER/sockets holds the sockets, FOLDER/registry the entries. With --weigh, under Bun, each byte on stdin is answered on stderr by
 * "weighs N": the bytes that are in use after a collection of everything else.
 */
import "../../lib/util/disposable-stack.ts";
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { borrowFd, constants, read } from "../../ffi/mod.ts";
import { ShmlinkError } from "../../lib/errors.ts";
import { type Fields, type Logger, SILENT } from "../../lib/log.ts";
import { CommandError } from "../../lib/wrap/errors.ts";
import type { Registry } from "../../lib/wrap/registry.ts";
import { parseRule } from "../../lib/wrap/rules/parse.ts";
import { runWrapped } from "../../lib/wrap/run.ts";
import { FileRegistry } from "./file-registry.ts";

const [folder = "", ...rest] = process.argv.slice(2);
const split = rest.indexOf("--");
const flags = rest.slice(0, split);

const logFile = flags.find((flag) => flag.startsWith("--log="))?.slice("--log=".length);
const write = logFile === undefined ? console.error : (line: string) => appendFileSync(logFile, `${line}\n`);
const say = (level: string) => (message: string, fields?: Fields) =>
  write(`wrap ${level}: ${message}${fields === undefined ? "" : ` ${JSON.stringify(fields)}`}`);
const LOUD: Logger = { error: say("error"), warn: say("warn"), info: say("info"), debug: say("debug") };

function environment(): Record<string, string> {
  return Object.fromEntries(Object.entries(process.env).flatMap(([k, v]) => (v === undefined ? [] : [[k, v]])));
}

const registry: Registry = new FileRegistry(join(folder, "registry"));
if (flags.includes("--weigh")) {
  const stdin = borrowFd(0);
  registry.attach = (reactor) => {
    const asked = reactor.add(stdin, constants.EPOLLIN, () => {
      if (read(stdin, new Uint8Array(1)) === 0) return asked.remove();
      Bun.gc(true);
      const { heapUsed, external } = process.memoryUsage();
      console.error(`weighs ${heapUsed + external}`);
    });
  };
}

try {
  const code = runWrapped({
    argv: rest.slice(split + 1),
    env: environment(),
    registry,
    directory: join(folder, "sockets"),
    ioUring: flags.includes("--io-uring") ? "allow" : "refuse",
    exposeTcp: !flags.includes("--no-tcp"),
    rules: flags.filter((flag) => flag.startsWith("--rule=")).map((flag) => parseRule(flag.slice("--rule=".length))),
    logger: flags.includes("--log") || logFile !== undefined ? LOUD : SILENT,
  });
  process.exit(code);
} catch (error) {
  if (!(error instanceof ShmlinkError)) throw error;
  console.error(error.message);
  process.exit(error instanceof CommandError ? error.exitCode : 1);
}
