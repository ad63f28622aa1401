/** A contract suite as data: plain assertions, no test framework, so that the same cases run on every runtime. */
import { leakedSince, openFds } from "../helpers/open-fds.ts";

export type Case = {
  readonly name: string;
  /** A sentence when this kernel or machine cannot run the case. */
  readonly unless?: () => string | undefined;
  /** Why descriptors may stay open here, where the runtime itself keeps some. */
  readonly mayLeave?: string | undefined;
  readonly run: () => void | Promise<void>;
};

export type CaseResult = {
  readonly name: string;
  readonly outcome: "passed" | "failed" | "skipped";
  readonly detail: string;
};

async function runOnce({ run, mayLeave }: Case): Promise<readonly string[]> {
  const before = openFds();
  await run();
  return mayLeave === undefined ? leakedSince(before) : [];
}

/** What a runtime makes for itself once, whenever it likes (Deno's signal sockets), is no leak: a leak comes again. */
async function runCase(each: Case): Promise<CaseResult> {
  const { name, unless } = each;
  const reason = unless?.();
  if (reason !== undefined) return { name, outcome: "skipped", detail: reason };
  try {
    const first = await runOnce(each);
    const leaked = first.length > 0 ? await runOnce(each) : first;
    if (leaked.length > 0) throw new Error(`The case left descriptors open: ${leaked.join(", ")}`);
    return { name, outcome: "passed", detail: "" };
  } catch (error) {
    return { name, outcome: "failed", detail: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}

/** Runs the cases in order, each of which must end with the descriptors it began with. Prints a line of JSON for each at
 *  once, so that a crash shows where it came. */
export async function runSuite(cases: readonly Case[]): Promise<void> {
  for (const each of cases) console.log(JSON.stringify(await runCase(each)));
}
