/** `bun bench/run.ts ring|wrap|broker [--json] [id…]`: a table for people, or one JSON object; all questions or some. Progress goes to standard error. */
import { type BrokerResult, benchBroker } from "./broker.ts";
import { benchRing, type Result } from "./ring.ts";
import { benchWrap, type WrapResult } from "./wrap.ts";

const SUITES = { ring: benchRing, wrap: benchWrap, broker: benchBroker } as const;

function row(cells: readonly string[]): string {
  return cells.map((cell, index) => (index === 0 ? cell.padEnd(31) : cell.padStart(22))).join("");
}

function resultRow({ id, unit, value, baseline, baselineName, ratio }: Result | WrapResult | BrokerResult): string {
  const show = (number: number): string => `${Math.round(number).toLocaleString("en")} ${unit}`;
  return row([id, show(value), show(baseline), baselineName, ratio.toFixed(3)]);
}

const [suite, ...rest] = process.argv.slice(2);
const ids = rest.filter((word) => !word.startsWith("-"));
const json = rest.includes("--json");
if ((suite !== "ring" && suite !== "wrap" && suite !== "broker") || rest.length !== ids.length + Number(json)) {
  process.stderr.write("Usage: bun bench/run.ts ring|wrap|broker [--json] [id…]\n");
  process.exit(2);
}
if (!json) console.log(row(["", "measured", "against", "", "ratio"]));
const results = await SUITES[suite](ids, (result) => {
  if (!json) console.log(resultRow(result));
  else process.stderr.write(`${result.id}\n`);
});
if (json) console.log(JSON.stringify({ results }));
