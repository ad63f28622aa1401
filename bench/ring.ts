/** The channel on Bun at both ends against C that does the same job; both sides of a ratio take turns in one run. */
import { execFileSync } from "node:child_process";
import { BUN, ROOT } from "../test/helpers/runtimes.ts";
import type { Result } from "./answer.ts";
import { buildBaselines } from "./baseline.ts";
import { TWO_CPUS } from "./processors.ts";
import { QUESTIONS } from "./ring-questions.ts";

/** What the compiler makes of the same code differs from process to process; C's does not. */
const PROCESSES = 3;

/** In as many processes; the one with the middle ratio. The steps of the tuning are told apart by more than that. */
function ask(id: string): Result {
  const times = id.startsWith("ring.step.") ? 1 : PROCESSES;
  const results = Array.from({ length: times }, () => askOnce(id)).sort((one, other) => one.ratio - other.ratio);
  return results[times >> 1] as Result;
}

function askOnce(id: string): Result {
  const [program = "", ...args] = BUN.command("bench/ring-question.ts", id);
  const output = execFileSync(program, args, { cwd: ROOT, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
  return JSON.parse(output) as Result;
}

function needsTwo(id: string): boolean {
  return QUESTIONS.find((question) => question.id === id)?.baselineName.startsWith("C ring") === true;
}

/** @param asked  an id, or the beginning of several with a dot at its end; one that nothing has ends the program */
function idsOf(asked: string): readonly string[] {
  const ids = QUESTIONS.map(({ id }) => id).filter(
    (id) => id === asked || (asked.endsWith(".") && id.startsWith(asked)),
  );
  if (ids.length > 0) return ids;
  process.stderr.write(`Cannot measure "${asked}": there are ${QUESTIONS.map(({ id }) => id).join(", ")}\n`);
  process.exit(2);
}

/** Answers every question in turn. @param ids  only these, unless empty; "ring.step." is all of the steps
 *  @param report  told of each answer as it comes */
export function benchRing(ids: readonly string[], report: (result: Result) => void): Promise<readonly Result[]> {
  const asked = ids.length === 0 ? QUESTIONS.map(({ id }) => id) : ids.flatMap(idsOf);
  buildBaselines();
  const results: Result[] = [];
  for (const id of new Set(asked)) {
    if (!TWO_CPUS && needsTwo(id)) {
      process.stderr.write(`Not measured: ${id}: the ring in C only spins, which takes two processors\n`);
      continue;
    }
    const result = ask(id);
    report(result);
    results.push(result);
  }
  return Promise.resolve(results);
}
