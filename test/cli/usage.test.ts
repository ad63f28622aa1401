/** Help, version and wrong usage, the same on each runtime. */
import { describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { VERSION } from "../../lib/version.ts";
import { CHECKOUT } from "../helpers/broker.ts";
import { RUNTIMES } from "../helpers/runtimes.ts";
import { Cli, errorLine } from "./fixture.ts";

/** One file each. */
const COMMANDS = readdirSync(join(CHECKOUT, "lib", "cli", "commands")).map((name) => basename(name, ".ts"));

const CONTEXT = ["context", "create", "--engine=test", "--app=shop", "--instance=1", "--path=unmade.sock"];

const WRONG: readonly (readonly [words: readonly string[], said: RegExp])[] = [
  [[], /Missing command: one of ls, /],
  [["lst"], /Unknown command: "lst".*did you mean "ls"\?/],
  [["--hlep"], /Unknown option: "--hlep".*did you mean "--help"\?/],
  [["ls", "--jsn"], /Unknown option: "--jsn" is none of "shmlink ls"; did you mean "--json"\?/],
  [["ls", "-x"], /Unknown option: "-x"/],
  [["ls", "extra"], /Unexpected argument: "extra"/],
  [["ls", "--json=yes"], /--json takes no value/],
  [["ls", "--no-json"], /Unknown option: "--no-json"/],
  [["inspect"], /Missing argument: "shmlink inspect" needs NAME \(name or id, as in "shmlink ls"\)/],
  [["inspect", ""], /Cannot inspect "": a name, port or id is wanted/],
  [["dial"], /needs NAME \(/],
  [["config"], /needs VERB \(check, show or explain\)/],
  [
    ["config", "explain"],
    /Missing --action: "shmlink config explain" needs --action=ACTION, one of connect, listen, dial/,
  ],
  [["config", "explain", "--action=dail"], /Invalid --action "dail": one of connect.*did you mean "dial"/],
  [["demo", "--relay=ask"], /Missing --at: "shmlink demo --relay" needs --at=WHERE, a socket path, a TCP port/],
  [["demo", "--relay=x", "--at=y"], /Cannot use --relay "x": one of receive, send/],
  [["offer", "x"], /exactly one of --fd=N,\.\.\., --tcp=HOST:PORT and --unix=PATH is needed/],
  [["listen", "x", "--direction"], /Missing value: --direction needs one; write --direction=send\|receive/],
  [CONTEXT.filter((word) => !word.startsWith("--app")), /Missing --app: .* needs --app=NAME, what runs in it/],
  [CONTEXT.filter((word) => !word.startsWith("--path")), /Missing --path: .* needs --path=PATH, where to make/],
  [["dial", "x", "--wait"], /Missing value: --wait needs one/],
  [["dial", "x", "--wait=soon"], /Cannot use --wait "soon"/],
  [["dial", "x", "--wait", "-1"], /Missing value: --wait/],
  [["listen", "x", "--capacity=5000"], /Cannot use --capacity "5000": a power of two/],
  [["listen", "x", "--capacity="], /Missing value: --capacity/],
  [["config", "chekc"], /Unknown action: "chekc".*did you mean "check"\?/],
  [["wrap"], /Missing program/],
  [["wrap", "--no-tpc", "--", "true"], /Unknown option: "--no-tpc".*did you mean "--no-tcp"\?/],
  [["offer", "x", "--tcp=127.0.0.1:0", "--keep"], /Cannot use --keep with connections: each goes to one taker/],
  [[...CONTEXT, "--close-fd=out"], /Cannot use --close-fd "out": the number of an open descriptor is wanted/],
  [[...CONTEXT, "--close-fd=999"], /Cannot use --close-fd "999": it is not open here/],
  [["install", "--user", "--system"], /choose one/],
  [["broker", "--idle-ms=never"], /Cannot use --idle-ms "never"/],
];

for (const runtime of RUNTIMES) {
  describe(runtime.name, () => {
    test("--help teaches the commands, and each command's help has its arguments and an example", async () => {
      await using cli = new Cli(runtime);
      const overview = await cli.run(["--help"]);
      expect([overview.code, overview.stderr]).toEqual([0, ""]);
      for (const name of COMMANDS) expect(overview.text).toMatch(new RegExp(`^  ${name} `, "m"));
      const helps = await Promise.all(COMMANDS.map((name) => cli.run([name, "--help"])));
      for (const [index, help] of helps.entries()) {
        expect([help.code, help.stderr]).toEqual([0, ""]);
        expect(help.text).toStartWith(`Usage: shmlink ${COMMANDS[index]} `);
        expect(help.text).toMatch(/Examples?:\n {2}# .+\n {2}.*shmlink/);
      }
    }, 60_000);

    test("no line of help is wider than the others, but for examples, which are to be pasted", async () => {
      await using cli = new Cli(runtime);
      const helps = await Promise.all(
        [["--help"], ...COMMANDS.map((name) => [name, "--help"])].map((words) => cli.run(words)),
      );
      const lines = helps.flatMap(({ text }) => (text.split(/^Examples?:/m)[0] ?? "").split("\n"));
      expect(lines.length).toBeGreaterThan(100);
      expect(lines.filter((line) => line.length > 100)).toEqual([]);
    }, 60_000);

    test("--version prints the package's version", async () => {
      await using cli = new Cli(runtime);
      const { code, text } = await cli.run(["--version"]);
      expect([code, text]).toEqual([0, `shmlink ${VERSION}\n`]);
    });

    test("wrong usage is one line with a hint and exit code 2, and starts nothing", async () => {
      await using cli = new Cli(runtime);
      for (const [words, said] of WRONG) {
        const result = await cli.run(words);
        expect(errorLine(result)).toMatch(said);
        expect([words, result.code, result.text]).toEqual([words, 2, ""]);
      }
      expect(() => cli.link()).toThrow(/no-broker|Cannot reach a broker/);
    }, 60_000);

    test("--help wins over a mistake beside it, but not behind -- or the program", async () => {
      await using cli = new Cli(runtime);
      for (const line of [
        "ls --nope -h",
        "take web --help",
        "context create --engine podman --help",
        "run -g dial:db -h",
      ]) {
        const { code, text } = await cli.run(line.split(" "));
        expect([line, code, text.split(" ", 2)]).toEqual([line, 0, ["Usage:", "shmlink"]]);
      }
      for (const words of [["wrap", "--"], ["wrap"], ["run", "--grant", "dial:db"]]) {
        const { code, text } = await cli.run([...words, "sh", "-c", 'echo "$1"', "sh", "--help"]);
        expect([words, code, text]).toEqual([words, 0, "--help\n"]);
      }
    });
  });
}
