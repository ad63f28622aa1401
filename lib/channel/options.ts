/** What a caller may choose for its end of a channel, looked at once, before anything is made of it: later a wrong value would
 *  look like another choice, or switch a limit off. */
import type { Direction, EndOptions } from "./core.ts";

type Rule = { readonly wanted: string; readonly allows: (value: unknown) => boolean };

const isNumber = (value: unknown): value is number => typeof value === "number" && value >= 0;
const bytes: Rule = { wanted: "a number of bytes, 0 or more", allows: isNumber };
const yesNo: Rule = { wanted: "true or false", allows: (value) => typeof value === "boolean" };

function oneOf(...words: readonly string[]): Rule {
  return { wanted: words.map((word) => `"${word}"`).join(" or "), allows: (value) => words.includes(value as string) };
}

const RULES_BY_NAME: Required<{ readonly [name in keyof EndOptions]: Rule }> = {
  trust: oneOf("strict", "trusted"),
  spinUs: {
    wanted: "a finite number of microseconds, 0 or more",
    allows: (value) => isNumber(value) && Number.isFinite(value),
  },
  prefault: yesNo,
  hugePages: yesNo,
  machineCode: yesNo,
  maxMessageBytes: bytes,
  maxPeerCapacity: bytes,
  whenFull: oneOf("block", "drop-new"),
  whenBehind: oneOf("keep", "drop-old"),
};

const RULES = Object.entries(RULES_BY_NAME) as readonly (readonly [keyof EndOptions, Rule])[];

const DIRECTION: Rule = oneOf("both", "send", "receive");
const CAPACITY: Rule = {
  wanted: "a number of bytes, a power of two,",
  allows: (value) => typeof value === "number" && !Number.isNaN(value),
};

/** @throws TypeError that names what is allowed */
export function checkEndOptions(options: EndOptions): void {
  if (choosesNothing(options)) return;
  for (const [name, rule] of RULES) checkOption(name, options[name], rule);
}

/** As mostly, and asked for every channel: by name, which costs a fraction of a look at each rule. */
function choosesNothing(options: EndOptions): boolean {
  const { trust, spinUs, prefault, hugePages, machineCode } = options;
  const { maxMessageBytes, maxPeerCapacity, whenFull, whenBehind } = options;
  const isPlain = trust === undefined && spinUs === undefined && machineCode === undefined;
  const isUnlimited = maxMessageBytes === undefined && maxPeerCapacity === undefined;
  return (
    isPlain &&
    isUnlimited &&
    prefault === undefined &&
    hugePages === undefined &&
    whenFull === undefined &&
    whenBehind === undefined
  );
}

/** The same of what goes to the broker too. Which numbers it takes as a capacity, it says itself. */
export function checkListenOptions(
  options: EndOptions & { readonly direction?: Direction; readonly capacity?: number },
): void {
  checkEndOptions(options);
  checkOption("direction", options.direction, DIRECTION);
  checkOption("capacity", options.capacity, CAPACITY);
}

function checkOption(name: string, value: unknown, { wanted, allows }: Rule): void {
  if (value === undefined || value === null || allows(value)) return;
  throw new TypeError(`Cannot use "${String(value)}" as option ${name}: ${wanted} is needed`);
}
