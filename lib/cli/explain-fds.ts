/** The descriptors that `shmlink config explain` is asked about: words of a command line → what the rules look at. */
import { ACCESSES, FAMILIES, FD_TYPES, type FdFacts, SEALS } from "../policy/fd-facts.ts";
import { suggest } from "../util/suggest.ts";
import { parseWhole } from "./numbers.ts";
import { UsageError } from "./usage-error.ts";

const FD_KEYS = ["family", "access", "seals", "size", "exporter"] as const;

/** "memfd,seals=write+shrink,size=4096,tcp,family=inet": a type begins a descriptor, what follows is said of it.
 *  @throws UsageError */
export function parseFds(text: string): FdFacts[] {
  const fds: FdFacts[] = [];
  for (const word of text.split(",")) {
    const at = word.indexOf("=");
    const known = at < 0 ? startFd(word) : fds.pop();
    if (known === undefined)
      throw new UsageError(`Invalid --fd "${text}": "${word}" stands before the type it is about`);
    fds.push(at < 0 ? known : { ...known, ...parseFact(word.slice(0, at), word.slice(at + 1)) });
  }
  return fds;
}

function startFd(word: string): FdFacts {
  const type = parseWord(word, FD_TYPES, "type");
  return type.startsWith("unix-") ? { type, family: "unix" } : { type };
}

function parseFact(key: string, value: string): Partial<FdFacts> {
  switch (FD_KEYS.find((known) => known === key)) {
    case "family":
      return { family: parseWord(value, FAMILIES, key) };
    case "access":
      return { access: parseWord(value, ACCESSES, key) };
    case "seals":
      return { seals: value === "" ? [] : value.split("+").map((seal) => parseWord(seal, SEALS, key)) };
    case "size":
      return { sizeBytes: parseWhole(value, "--fd size", Number.MAX_SAFE_INTEGER) };
    case "exporter":
      return { exporter: value };
    case undefined:
      throw new UsageError(`Invalid --fd key "${key}": one of ${FD_KEYS.join(", ")} is wanted${suggest(key, FD_KEYS)}`);
  }
}

function parseWord<T extends string>(word: string, known: readonly T[], what: string): T {
  const found = known.find((one) => one === word);
  if (found !== undefined) return found;
  throw new UsageError(`Invalid --fd ${what} "${word}": one of ${known.join(", ")} is wanted${suggest(word, known)}`);
}
