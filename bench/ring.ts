/** The channel on Bun at both ends against C that does the same job; both sides of a ratio take turns in one run. */
import { execFileSync } from "node:child_process";
import { BUN, ROOT } from "../test/helpers/runtimes.ts";
import type { Result } from "./answer.ts";
import { buildBaselines } from "./baseline.ts";
import { QUESTIONS } from "./ring-questions.ts";

function ask(id: string): Result {
  const [program = "", ...args] = BUN.command("bench/ring-question.ts", id);
  const output = execFileSync(program, args, { cwd: ROOT, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
  return JSON.parse(output) as Result;
}

/** @param asked  an id, or the beginning of several with a dot at its end  @throws Error when nothing has it */
function idsOf(asked: string): readonly string[] {
  const ids = QUESTIONS.map(({ id }) => id).filter(
    (id) => id === asked || (asked.endsWith(".") && id.startsWith(asked)),
  );
  if (ids.length > 0) return ids;
  throw new Error(`Cannot measure "${asked}": there are ${QUESTIONS.map(({ id }) => id).join(", ")}`);
}

/** Answers every question in turn. @param ids  only these, unless empty; "ring.step." is all of the steps
 *  @param report  told of each answer as it comes */
export function benchRing(ids: readonly string[], report: (result: Result) => void): Promise<readonly Result[]> {
  const asked = ids.length === 0 ? QUESTIONS.map(({ id }) => id) : ids.flatMap(idsOf);
  buildBaselines();
  const results: Result[] = [];
  for (const id of new Set(asked)) {
    const result = ask(id);
    report(result);
    results.push(result);
  }
  return Promise.resolve(results);
}
