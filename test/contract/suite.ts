/** A contract suite as data: plain assertions, no test framework, so that the same cases run on every runtime. */
export type Case = {
  readonly name: string;
  /** A sentence when this kernel or machine cannot run the case. */
  readonly unless?: () => string | undefined;
  readonly run: () => void | Promise<void>;
};

export type CaseResult = {
  readonly name: string;
  readonly outcome: "passed" | "failed" | "skipped";
  readonly detail: string;
};

async function runCase({ name, unless, run }: Case): Promise<CaseResult> {
  const reason = unless?.();
  if (reason !== undefined) return { name, outcome: "skipped", detail: reason };
  try {
    await run();
    return { name, outcome: "passed", detail: "" };
  } catch (error) {
    return { name, outcome: "failed", detail: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}

/** Runs the cases in order and prints a line of JSON for each, so that a crash shows where it came. */
export async function runSuite(cases: readonly Case[]): Promise<void> {
  for (const each of cases) console.log(JSON.stringify(await runCase(each)));
}
