/** wrap's exit codes and what a program under it finds, on each runtime. What wrap does to sockets is tested elsewhere. */
import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { RUNTIMES } from "../helpers/runtimes.ts";
import { Cli, errorLine } from "./fixture.ts";

for (const runtime of RUNTIMES) {
  describe(runtime.name, () => {
    test("passes the exit code on, 128 + n for a signal", async () => {
      await using cli = new Cli(runtime);
      expect((await cli.run(["wrap", "--", "sh", "-c", "exit 7"])).code).toBe(7);
      expect((await cli.run(["wrap", "--", "sh", "-c", "kill -9 $$"])).code).toBe(137);
    }, 60_000);

    test("127 for a command that does not exist, 126 for one that cannot be executed, with a line", async () => {
      await using cli = new Cli(runtime);
      const missing = await cli.run(["wrap", "--", "no-such-program-here"]);
      expect(errorLine(missing)).toMatch(/"no-such-program-here"/);
      const plain = join(cli.directory, "plain");
      writeFileSync(plain, "text", { mode: 0o600 });
      const refused = await cli.run(["wrap", "--", plain]);
      expect(errorLine(refused)).toMatch(/not executable/);
      expect([missing.code, refused.code]).toEqual([127, 126]);
    }, 60_000);

    test("hands stdin, arguments with dashes, environment and open file limit on, but not the launcher's variables", async () => {
      await using cli = new Cli(runtime);
      const script =
        'cat; echo "$1 $FROM $(ulimit -Sn)"; env | grep -c "^SHMLINK_\\(NOFILE\\|SIGIGN\\|SIGBLK\\)="; true';
      const env = { FROM: "outside", SHMLINK_NOFILE: "123", SHMLINK_SIGIGN: "0", SHMLINK_SIGBLK: "0" };
      const { code, text } = await cli.run(["wrap", "sh", "-c", script, "sh", "--json"], { input: "in\n", env });
      expect([code, text]).toEqual([0, "in\n--json outside 123\n0\n"]);
    }, 60_000);
  });
}
