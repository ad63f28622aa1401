/** What README says can be pasted, is. */
import { expect, test } from "bun:test";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BUN, buildForNode, DENO, ROOT } from "../helpers/runtimes.ts";
import { Cli } from "./fixture.ts";

const README = readFileSync(join(ROOT, "README.md"), "utf8");

const SCRIPTS = [...README.matchAll(/```js\n([\s\S]*?)```/g)].map((match) => match[1] ?? "");

/** A folder in the checkout, so that "shmlink" is found as it is by who pastes there. */
function pasted(): string {
  const directory = join(ROOT, "build", `readme-${process.pid}`);
  mkdirSync(directory, { recursive: true });
  for (const [index, name] of ["hear.mjs", "say.mjs"].entries())
    writeFileSync(join(directory, name), SCRIPTS[index] ?? "");
  return directory;
}

const COMMANDS = { bun: [BUN.binary], deno: [DENO.binary, "run", "-A"], node: ["node"] } as const;

for (const [hearer, sayer] of [
  ["bun", "bun"],
  ["deno", "deno"],
  ["node", "node"],
  ["node", "bun"],
] as const) {
  test(`the two scripts talk to one another on ${hearer} and ${sayer}`, async () => {
    buildForNode();
    await using cli = new Cli(BUN);
    const cwd = pasted();
    const start = (name: "bun" | "deno" | "node", file: string): ReturnType<typeof Bun.spawn> =>
      Bun.spawn([...COMMANDS[name], file], { cwd, env: cli.env, stdout: "pipe", stderr: "inherit" });
    const say = start(sayer, "say.mjs"); // the one that has to wait for the other
    const hear = start(hearer, "hear.mjs");
    expect(await say.exited).toBe(0);
    const reader = (hear.stdout as ReadableStream<Uint8Array>).getReader();
    expect(new TextDecoder().decode((await reader.read()).value)).toBe("hello through shared memory\n");
    hear.kill();
    await hear.exited;
    rmSync(cwd, { recursive: true });
  }, 60_000);
}

test("the first example prints its line", async () => {
  await using cli = new Cli(BUN);
  const block = /paste this in the checkout:\n\n((?: {4}.*\n)+)/.exec(README)?.[1] ?? "";
  const script = `${block.replaceAll("    bin/shmlink", "bin/shmlink")}\nwait\n`;
  const child = Bun.spawn(["sh", "-c", script], { cwd: ROOT, env: cli.env, stdout: "pipe", stderr: "inherit" });
  expect(await new Response(child.stdout).text()).toBe("hello through shared memory\n");
  expect(await child.exited).toBe(0);
}, 60_000);

test("the table has the commands of --help, and no other", async () => {
  await using cli = new Cli(BUN);
  const { text } = await cli.run(["--help"]);
  const commands = [...(text.split("Options:")[0] ?? "").matchAll(/^ {2}([a-z]+) {2,}/gm)].map((match) => match[1]);
  const table = [...README.matchAll(/^\| `shmlink ([a-z]+)/gm)].map((match) => match[1]);
  expect(table.sort()).toEqual(commands.sort());
});
