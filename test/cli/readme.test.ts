/** What README says can be pasted, is. */
import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BUN, ROOT } from "../helpers/runtimes.ts";
import { Cli } from "./fixture.ts";

const README = readFileSync(join(ROOT, "README.md"), "utf8");

test("the library example prints what was sent", async () => {
  await using cli = new Cli(BUN);
  const code = /```ts\n([\s\S]*?)```/.exec(README)?.[1] ?? "";
  const file = join(cli.directory, "example.ts");
  writeFileSync(file, code.replace("./lib/mod.ts", join(ROOT, "lib/mod.ts")));
  const child = Bun.spawn([BUN.binary, file], { env: cli.env, stdout: "pipe", stderr: "inherit" });
  expect(await new Response(child.stdout).text()).toBe("hello through shared memory\n");
  expect(await child.exited).toBe(0);
}, 60_000);

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
