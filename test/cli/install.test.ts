/** install and doctor, on each runtime. */
import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT, RUNTIMES } from "../helpers/runtimes.ts";
import { Cli, errorLine } from "./fixture.ts";

for (const runtime of RUNTIMES) {
  describe(runtime.name, () => {
    test("install writes units with the path of bin/shmlink, keeps changed ones, and takes its own away", async () => {
      await using cli = new Cli(runtime);
      const env = { XDG_CONFIG_HOME: join(cli.directory, "config") };
      const units = join(cli.directory, "config/systemd/user");
      const dry = await cli.run(["install", "--dry-run"], { env });
      expect([dry.code, existsSync(units)]).toEqual([0, false]);

      const done = await cli.run(["install"], { env });
      expect([done.code, done.stderr]).toEqual([0, ""]);
      expect(done.text).toContain("systemctl --user enable --now shmlink.socket");
      expect(readdirSync(units).sort()).toEqual(["shmlink.service", "shmlink.socket"]);
      const service = readFileSync(join(units, "shmlink.service"), "utf8");
      expect(service).toContain(`ExecStart=${join(ROOT, "bin/shmlink")} broker`);
      expect(service).not.toContain("@SHMLINK@");

      writeFileSync(join(units, "shmlink.service"), "# mine\n");
      for (const words of [["install"], ["install", "--uninstall"]]) {
        const refused = await cli.run(words, { env });
        expect(errorLine(refused)).toMatch(/it differs from what would be installed; use --force/);
        expect([refused.code, readdirSync(units).length]).toEqual([1, 2]);
      }
      expect((await cli.run(["install", "--uninstall", "--force"], { env })).code).toBe(0);
      expect(readdirSync(units)).toEqual([]);
    }, 60_000);

    test("doctor finds what the other tests rely on, and its exit code is its verdict", async () => {
      await using cli = new Cli(runtime);
      const { code, text } = await cli.run(["doctor", "--json"]);
      const { ok, probes } = JSON.parse(text) as {
        ok: boolean;
        probes: { name: string; ok: boolean; detail: string }[];
      };
      expect(code).toBe(ok ? 0 : 1);
      expect(probes.find(({ name }) => name === "sealed memfd")?.ok).toBe(true);
      expect(probes.find(({ name }) => name === "broker")).toMatchObject({ ok: false, detail: "none is running" });
      for (const probe of probes)
        expect(Object.keys(probe).sort()).toEqual(["detail", "essential", "name", "neededFor", "ok"]);
      expect((await cli.run(["doctor"])).text.split("\n").length).toBeGreaterThan(probes.length);
    }, 60_000);
  });
}
