/** Runs the contract of ffi on every runtime with every backend: a program each, a test per case of what it printed. */
import { beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { BUN, buildForNode, DENO, NODE, ROOT, type Runtime } from "../helpers/runtimes.ts";
import { FFI_CASES } from "./ffi-suite.ts";
import type { CaseResult } from "./suite.ts";

type Variant = { readonly runtime: Runtime; readonly backend: string; readonly env: Readonly<Record<string, string>> };

const KOFFI = { SHMLINK_FFI: "koffi" };
const VARIANTS: readonly Variant[] = [
  { runtime: BUN, backend: "bun", env: {} },
  { runtime: BUN, backend: "koffi", env: KOFFI },
  { runtime: DENO, backend: "deno", env: {} },
  { runtime: DENO, backend: "koffi", env: KOFFI },
  { runtime: NODE, backend: "koffi", env: {} },
];

type Run = {
  readonly backend: string | undefined;
  readonly results: ReadonlyMap<string, CaseResult>;
  readonly end: string;
};

function runVariant({ runtime, env }: Variant): Run {
  const [program = "", ...args] = runtime.command("test/contract/ffi-suite.ts", "run");
  const { SHMLINK_FFI: _, ...inherited } = process.env;
  const child = spawnSync(program, args, {
    cwd: ROOT,
    env: { ...inherited, ...env },
    encoding: "utf8",
    timeout: 120_000,
  });
  const lines = child.stdout.split("\n").filter((line) => line.startsWith("{"));
  const [head, ...cases] = lines.map((line) => JSON.parse(line) as CaseResult & { backend?: string });
  return {
    backend: head?.backend,
    results: new Map(cases.map((result) => [result.name, result])),
    end: `exit ${child.status ?? child.signal}: ${child.stderr.slice(-2000)}`,
  };
}

for (const variant of VARIANTS) {
  describe(`ffi on ${variant.runtime.name} through ${variant.backend}`, () => {
    let run: Run;
    beforeAll(() => {
      buildForNode();
      run = runVariant(variant);
    }, 180_000);

    test("the backend is the one asked for, and the suite ran to its end", () => {
      expect(run.backend).toBe(variant.backend);
      expect(run.end).toStartWith("exit 0:");
      expect([...run.results.keys()]).toEqual(FFI_CASES.map(({ name }) => name));
    });

    for (const { name, unless } of FFI_CASES) {
      const reason = unless?.();
      const title = reason === undefined ? name : `${name} [${reason}]`;
      test.skipIf(reason !== undefined)(title, () => {
        const result = run.results.get(name);
        if (result === undefined) throw new Error(`The case did not run: ${run.end}`);
        if (result.outcome !== "passed") throw new Error(result.detail);
      });
    }
  });
}
