/**
 * ring-question.ts ID      asks one question, in a process of its own as the programs in C are: what the compiler makes of
 * a channel depends on what other channels the process has. The answer is a line of JSON.
 */
import { pinToCpu } from "../ffi/mod.ts";
import type { Channel } from "../lib/channel/channel.ts";
import { answer } from "./answer.ts";
import { type Pair, startPair } from "./pair.ts";
import { CPUS, TWO_CPUS } from "./processors.ts";
import { command } from "./ring-measures.ts";
import { ENDS, type EndName, QUESTIONS } from "./ring-questions.ts";

const CAPACITY = 1 << 20; // as the C ring
const HUGE_PAGE = 1 << 21;
/** The compiler goes on making something else of the same code for longer than one would think: with an eighth of this a
 *  round trip took up to 30 ns more in every second process. */
const WARM_UP_MS = 2500;

function start(name: EndName): Promise<Pair> {
  return startPair({ capacity: name === "huge" ? HUGE_PAGE : CAPACITY, end: ENDS[name] });
}

/** Only after the compiler's turn: a thread inherits its maker's processors, and the runtime's compiler threads on the
 *  processor that a ring spins on would be measured as the ring. */
function pin(pairs: readonly Pair[]): void {
  for (const { channel } of pairs) command(channel, { kind: "pin", size: CPUS[1], count: 0 });
  pinToCpu(CPUS[0]);
}

const question = QUESTIONS.find(({ id }) => id === process.argv[2]);
if (question === undefined) throw new Error(`Cannot measure "${process.argv[2]}": no such question`);
const pairs: Pair[] = [];
try {
  for (const name of question.ends) pairs.push(await start(name));
  const [first, second] = pairs.map(({ channel }) => channel) as [Channel, Channel];
  const measure = (): number => question.measure(first);
  const measureBaseline = (): number => question.measureBaseline(first, second);
  for (const end = performance.now() + WARM_UP_MS; performance.now() < end; ) {
    measure();
    if (pairs.length > 1) measureBaseline();
  }
  if (TWO_CPUS) pin(pairs);
  console.log(JSON.stringify(answer({ ...question, measure, measureBaseline })));
} finally {
  for (const pair of pairs) await pair.stop();
}
