/**
 * Everything that two sides of a channel can do to one another on x86, whose processors keep stores in a queue for a
 * while: a store becomes visible to the other side at any later moment, in order, and an atomic store waits until the
 * queue is empty. A doorbell that rang twice rang once; a side that sleeps wakes when it has rung, and forgets it.
 *
 * Every state is visited once. A state that nothing follows is an end, or somebody sleeps for ever.
 */
import type { RealSide } from "./real-side.ts";
import { type ControlWord, controlOf, WORDS, wordName } from "./shared-words.ts";

export type Exploration = {
  readonly states: number;
  /** How a state was come to in which a side sleeps for ever, or whose end `check` did not like. */
  readonly failure: { readonly why: string; readonly path: readonly string[] } | undefined;
};

export type ExploreOptions = {
  /** What both programs returned. @returns what is wrong with it */
  readonly check: (results: readonly number[]) => string | undefined;
  /** A word whose atomic stores are taken for plain ones. */
  readonly plain?: ControlWord | undefined;
  /** false: every store is visible at once. */
  readonly queues?: boolean;
};

type Side = { readonly at: number; readonly bell: boolean; readonly queue: readonly (readonly [number, number])[] };
type State = { readonly memory: readonly number[]; readonly sides: readonly [Side, Side] };
type Path = { readonly name: string; readonly before: Path } | undefined;
type Found = { readonly state: State; readonly name: string };

export function explore(sides: readonly [RealSide, RealSide], options: ExploreOptions): Exploration {
  const seen = new Set<string>();
  const asleep: Side = { at: 0, bell: false, queue: [] };
  const open: { state: State; path: Path }[] = [
    { state: { memory: new Array<number>(WORDS).fill(0), sides: [asleep, asleep] }, path: undefined },
  ];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { state, path } = next;
    const key = keyOf(state);
    if (seen.has(key)) continue;
    seen.add(key);
    const following = [...successors(state, 0, sides[0], options), ...successors(state, 1, sides[1], options)];
    const why = following.length > 0 ? undefined : whyStuck(state, sides, options);
    if (why !== undefined) return { states: seen.size, failure: { why, path: unwind(path) } };
    for (const { state, name } of following) open.push({ state, path: { name, before: path } });
  }
  return { states: seen.size, failure: undefined };
}

/** All of a state, a number a character. */
function keyOf({ memory, sides: [left, right] }: State): string {
  const { fromCharCode } = String;
  if (Math.max(left.at, right.at, ...memory) > 0xffff) throw new RangeError("A number does not fit into a character");
  const bells = (left.bell ? 1 : 0) + (right.bell ? 2 : 0);
  const queues = left.queue.length + right.queue.length === 0 ? "" : `${left.queue.join()} ${right.queue.join()}`;
  return fromCharCode(bells, left.at, right.at, ...memory) + queues;
}

function unwind(path: Path): string[] {
  const names: string[] = [];
  for (let at = path; at !== undefined; at = at.before) names.unshift(at.name);
  return names;
}

function whyStuck({ sides }: State, real: readonly RealSide[], { check }: ExploreOptions): string | undefined {
  const results: number[] = [];
  for (const [who, { at }] of sides.entries()) {
    const operation = real[who]?.operation(at);
    if (operation?.op !== "end") return `side ${who} sleeps for ever`;
    results.push(operation.result);
  }
  return check(results);
}

function successors(state: State, who: 0 | 1, real: RealSide, { plain, queues = true }: ExploreOptions): Found[] {
  const found: Found[] = [];
  const side = state.sides[who];
  const { at, bell, queue } = side;
  const [first, ...rest] = queue;
  const add = (name: string, change: Partial<Side>, memory: readonly number[] = state.memory, rings = false): void => {
    const sides: [Side, Side] = [...state.sides];
    sides[who] = { ...side, ...change };
    if (rings) sides[1 - who] = { ...(sides[1 - who] as Side), bell: true };
    found.push({ state: { memory, sides }, name: `${who}: ${name}` });
  };
  if (first !== undefined) {
    add(`${wordName(first[0])} = ${first[1]} becomes visible`, { queue: rest }, state.memory.with(first[0], first[1]));
  }
  const operation = real.operation(at);
  const goOn = (answer = 0): { at: number } => ({ at: real.after(at, answer) });
  switch (operation.op) {
    case "store": {
      const { word, value } = operation;
      const name = `${wordName(word)} = ${value}`;
      const atomic = operation.atomic && controlOf(word) !== plain;
      if (!atomic && queues) add(`${name}, plain`, { ...goOn(), queue: [...queue, [word, value]] });
      else if (first === undefined) add(name, goOn(), state.memory.with(word, value));
      break;
    }
    case "load": {
      const value = state.memory[operation.word] ?? 0;
      add(`reads ${wordName(operation.word)} = ${value}`, goOn(value));
      break;
    }
    case "ring":
      add("rings", goOn(), state.memory, true);
      break;
    case "sleep":
      if (bell) add("wakes", { ...goOn(), bell: false });
      break;
    case "turn":
      add("goes on", goOn());
      if (bell) add("loses the byte that rang", { ...goOn(), bell: false });
      break;
    case "end":
  }
  return found;
}
