import { describe, expect, test } from "bun:test";
import { argumentValues } from "../../../lib/cli/argument-values.ts";
import { checkArguments } from "../../../lib/cli/arguments.ts";
import { makeCommand } from "../../../lib/cli/command.ts";

const plain = makeCommand({
  name: "plain",
  summary: "",
  description: "",
  examples: [],
  args: {
    first: { type: "positional", required: true },
    second: { type: "positional", required: false },
    json: { type: "boolean", alias: "j" },
    tcp: { type: "boolean", default: true },
    size: { type: "string", alias: "s" },
  },
  run: () => 0,
});
const runner = makeCommand({ ...plain, takesProgram: true, args: { name: { type: "string" } }, run: () => 0 });

describe("checkArguments()", () => {
  test("puts every spelling of an option into one form", () => {
    for (const words of [["--size", "4K"], ["--size=4K"], ["-s", "4K"], ["-s4K"], ["-s=4K"], ["-js4K"]]) {
      const { options, positionals } = checkArguments([...words, "x"], plain);
      expect(options.filter((word) => word !== "--json")).toEqual(["--size=4K"]);
      expect(positionals).toEqual(["x"]);
    }
    expect(checkArguments(["x", "-jv", "--no-tcp"], plain).options).toEqual(["--json", "--verbose", "--no-tcp"]);
  });

  test("takes words that begin with a dash after -- as they are", () => {
    expect(checkArguments(["--", "-x", "--json"], plain)).toEqual({
      options: [],
      positionals: ["-x", "--json"],
      program: [],
    });
    expect(checkArguments(["-"], plain).positionals).toEqual(["-"]);
  });

  test("leaves a program's words alone, with -- before it or without", () => {
    const program = ["ls", "--name", "-v", "--"];
    const checked = { options: ["--name=n"], positionals: [], program };
    expect(checkArguments(["--name=n", "--", ...program], runner)).toEqual(checked);
    expect(checkArguments(["--name=n", ...program], runner)).toEqual(checked);
  });

  test("refuses unknown options, missing and unwanted values, too few and too many words", () => {
    const wrong = [
      ["--sise=1", "x"],
      ["-z", "x"],
      ["x", "--size"],
      ["--size=", "x"],
      ["--size", "--json", "x"],
    ];
    wrong.push(["--json=1", "x"], ["--no-json", "x"], ["--no-tcp=1", "x"], ["--first=x"], [], ["1", "2", "3"]);
    for (const words of wrong)
      expect(() => checkArguments(words, plain)).toThrow(expect.objectContaining({ name: "UsageError" }));
  });
});

describe("argumentValues()", () => {
  const values = (...words: string[]): object => argumentValues(checkArguments(words, plain), plain.args);

  test("gives each argument what was said, the last of several, or its default", () => {
    const unsaid = { first: "x", second: undefined, json: undefined, tcp: true, size: undefined };
    expect(values("x")).toMatchObject(unsaid);
    expect(values("x", "y", "-j", "--size=1", "--no-tcp", "--size", "a=b")).toMatchObject({
      first: "x",
      second: "y",
      json: true,
      tcp: false,
      size: "a=b",
    });
    expect(values("--", "--json", "-")).toMatchObject({ ...unsaid, first: "--json", second: "-" });
  });

  test("does not take one option for another that begins like it", () => {
    const args = { in: { type: "string" }, input: { type: "string" } } as const;
    expect(argumentValues({ options: ["--input=a"], positionals: [] }, args)).toEqual({ in: undefined, input: "a" });
  });
});
