/** What users get wrong around the command line: one clear line that says what to do, and nothing left behind. */
import { describe, expect, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { constants } from "../../ffi/mod.ts";
import { listenOn } from "../../lib/transport/socket-path.ts";
import { RUNTIMES } from "../helpers/runtimes.ts";
import { Cli, errorLine } from "./fixture.ts";

for (const runtime of RUNTIMES) {
  describe(runtime.name, () => {
    test("a directory that others can write to is refused by name and mode", async () => {
      await using cli = new Cli(runtime);
      const open = join(cli.directory, "open");
      mkdirSync(open);
      chmodSync(open, 0o777);
      const result = await cli.run(["ls"], { env: { SHMLINK_SOCKET: join(open, "b.sock") } });
      expect(errorLine(result)).toMatch(/Cannot use directory ".*open": its mode is 0777.*chmod/);
      expect([result.code, readdirSync(open)]).toEqual([1, []]);
    });

    test("no directory for the socket, and a socket path that is too long, say what to do", async () => {
      await using cli = new Cli(runtime);
      const missing = await cli.run(["ls"], { env: { SHMLINK_SOCKET: join(cli.directory, "a/b/c.sock") } });
      expect(errorLine(missing)).toMatch(/does not exist; make it or set SHMLINK_SOCKET/);
      const file = join(cli.directory, "file"); // our own: nobody's but the caller's is taken for one's runtime directory
      writeFileSync(file, "");
      const beyond = await cli.run(["ls"], { env: { XDG_RUNTIME_DIR: file, SHMLINK_SOCKET: "" } });
      expect(errorLine(beyond)).toMatch(/Cannot use directory ".*\/file\/shmlink": it cannot be looked at \(ENOTDIR\)/);
      const long = await cli.run(["ls"], { env: { SHMLINK_SOCKET: join(cli.directory, "x".repeat(120)) } });
      expect(errorLine(long)).toMatch(/107 is the most; set SHMLINK_SOCKET to a shorter path/);
      expect([missing.code, beyond.code, long.code]).toEqual([1, 1, 1]);
    });

    test("what is no broker's, in the place of its socket or above it, is named, and what to do", async () => {
      await using cli = new Cli(runtime);
      using _other = listenOn(cli.socketPath, constants.SOCK_SEQPACKET);
      const other = await cli.run(["ls"]);
      expect(errorLine(other)).toMatch(/it is no broker's; remove it, or set SHMLINK_SOCKET$/);
      const file = join(cli.directory, "file");
      writeFileSync(file, "");
      const below = await cli.run(["broker", `--socket=${file}/s`]);
      expect(errorLine(below)).toBe(
        `shmlink: Cannot use directory "${file}": it is not a directory; remove it or set SHMLINK_SOCKET`,
      );
      expect([other.code, below.code]).toEqual([1, 1]);
    });

    test("broken TOML is reported with file, line and column by check, show and broker", async () => {
      await using cli = new Cli(runtime);
      const file = join(cli.directory, "bad.toml");
      writeFileSync(file, "[broker]\nidleMs = 5\nidelMs = 6\n");
      for (const words of [
        ["config", "check", file],
        ["config", "show", file],
        ["broker", `--config=${file}`],
      ]) {
        const result = await cli.run(words);
        expect(errorLine(result)).toMatch(/bad\.toml:3:1: .*idelMs.*did you mean "(broker\.)?idleMs"\?/);
        expect([words, result.code]).toEqual([words, 1]);
      }
      const json = JSON.parse((await cli.run(["config", "check", "--json", file])).text) as Record<string, unknown>;
      expect(json).toMatchObject({ ok: false, sources: [file], problems: [expect.stringContaining("bad.toml:3:1")] });
      expect(existsSync(cli.socketPath)).toBe(false);
    });

    test("control characters of a configuration reach no terminal: not from check, show, explain, nor the broker", async () => {
      await using cli = new Cli(runtime);
      const said = async (text: string, name: string, ...words: readonly string[]): Promise<string> => {
        const file = join(cli.directory, name);
        writeFileSync(file, text);
        const { text: output, stderr } = await cli.run(words.map((word) => word.replace("FILE", file)));
        expect([words, output + stderr]).toEqual([words, expect.not.stringMatching(/[^\P{Cc}\n]/u)]);
        return output + stderr;
      };
      const bad = '[[deny]]\nname = "\\u001b[31m"\nuid = "\\u009b"\n"\\u007f" = 1\n';
      for (const words of [["check"], ["check", "--json"], ["show"], ["explain", "--action=list"]])
        expect(await said(bad, "bad.toml", "config", ...words, "FILE")).toMatch(/bad\.toml:1:1: rule /);
      expect(await said(bad, "bad.toml", "broker", "--config=FILE")).toContain("[31m");
      const odd = '[[deny]]\nexe = "\\u001b\\u009b"\n';
      const shown = await said(odd, "\u001b.toml", "config", "show", "FILE");
      expect(shown).toContain('exe = [ "\\u001b\\u009b" ]');
      await said(odd, "\u001b.toml", "config", "check", "FILE");
      await said(odd, "\u001b.toml", "config", "explain", "--action=list", "FILE");
    }, 30_000);

    test("a broker that ends at its start is quoted by who started it, and leaves no socket", async () => {
      await using cli = new Cli(runtime);
      const file = join(cli.directory, "bad.toml");
      writeFileSync(file, "[limits\n");
      const result = await cli.run(["ls"], { env: { SHMLINK_CONFIG: file } });
      expect(errorLine(result)).toMatch(/Cannot start a broker at ".*broker\.sock": .*bad\.toml:1:8: Invalid TOML/);
      expect([result.code, existsSync(cli.socketPath)]).toEqual([1, false]);
    });

    test("a name that cannot be and a ring too large are refused before anybody is asked", async () => {
      await using cli = new Cli(runtime);
      for (const words of [
        ["listen", "bad name"],
        ["dial", ""],
        ["take", "x".repeat(129), "--", "true"],
      ]) {
        const result = await cli.run(words);
        expect(errorLine(result)).toMatch(/Cannot use name ".*": 1 to 128 of/);
        expect([words, result.code]).toEqual([words, 2]);
      }
      expect(existsSync(cli.socketPath)).toBe(false);
      const ring = await cli.run(["listen", "--capacity=1G", "z"]);
      expect(errorLine(ring)).toMatch(/Cannot use a ring of 1073741824 bytes: .*268435456/);
      expect(ring.code).toBe(1);
    });

    test("a grant that only delegates is refused: it would pass nothing on", async () => {
      await using cli = new Cli(runtime);
      const result = await cli.run(["run", "--grant=dial:db", "--grant=delegate:db", "--", "true"]);
      expect(errorLine(result)).toMatch(/Invalid --grant "delegate:db": delegate stands beside what may be passed on/);
      expect(result.code).toBe(2);
    });

    test("-v adds the causes below the line", async () => {
      await using cli = new Cli(runtime);
      writeFileSync(cli.socketPath, "no socket");
      const result = await cli.run(["ls", "-v"]);
      expect(result.code).toBe(1);
      expect(result.stderr).toMatch(/^shmlink: Cannot [^\n]+\n/);
      const quiet = await cli.run(["ls"]);
      expect(errorLine(quiet)).toMatch(/broker\.sock/);
    });

    test("output nobody reads ends quietly, and output that cannot be written says so", async () => {
      await using cli = new Cli(runtime);
      const { openSync, closeSync } = await import("node:fs");
      const full = openSync("/dev/full", "w");
      const result = await cli.run(["ls", "--json"], { stdout: full });
      closeSync(full);
      expect(errorLine(result)).toMatch(/Cannot write to stdout: ENOSPC/);
      expect(result.code).toBe(1);
    });

    test("a stdout that was closed is an error of whatever writes there", async () => {
      await using cli = new Cli(runtime);
      const env = { SHMLINK_CLOSED: " 1" }; // as bin/shmlink says it
      const printing = [
        ["ls"],
        ["ls", "--json"],
        ["--version"],
        ["doctor"],
        ["config", "show"],
        ["wrap", "--print"],
        ["listen", "x"],
      ];
      for (const words of printing) {
        const result = await cli.run(words, { env });
        expect([words, result.code, errorLine(result)]).toEqual([
          words,
          1,
          'shmlink: Cannot write to stdout: it is closed (EBADF); redirect it, to "> /dev/null" perhaps',
        ]);
      }
    });
  });
}
