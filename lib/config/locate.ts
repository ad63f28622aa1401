/**
 * Where a key stands in a TOML document, which the parser does not tell. Reads headers, keys and the ends of
 * multi-line values, nothing else: the document was parsed before, so it is valid. A key inside an inline table is
 * reported where its outermost key is.
 */

export type Place = { readonly line: number; readonly column: number };
type Path = readonly (string | number)[];
type Found = { readonly path: Path; readonly place: Place };

const HEADER = /^\s*(\[\[?)([^\]]*)\]/;
const KEY = /^(\s*)((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=/;

/** @returns the place of `path`, else of the nearest thing around it that is in the document */
export function locate(source: string, path: Path): Place | undefined {
  const found = [...scan(source)];
  for (let length = path.length; length > 0; length -= 1) {
    const wanted = path.slice(0, length);
    const hit = found.find(({ path: candidate }) => startsWith(candidate, wanted));
    if (hit !== undefined) return hit.place;
  }
  return undefined;
}

function startsWith(candidate: Path, wanted: Path): boolean {
  return wanted.length <= candidate.length && wanted.every((part, index) => part === candidate[index]);
}

function* scan(source: string): Generator<Found> {
  const counts = new Map<string, number>();
  let table: Path = [];
  let open = "";
  for (const [index, line] of source.split("\n").entries()) {
    if (open !== "") {
      open = stillOpen(line, open);
      continue;
    }
    const header = HEADER.exec(line);
    if (header !== null) {
      table = tablePath(header[2] ?? "", header[1] === "[[", counts);
      yield { path: table, place: { line: index + 1, column: line.indexOf("[") + 1 } };
      continue;
    }
    const key = KEY.exec(line);
    if (key === null) continue;
    yield {
      path: [...table, ...splitKey(key[2] ?? "")],
      place: { line: index + 1, column: (key[1] ?? "").length + 1 },
    };
    open = stillOpen(line.slice(key[0].length), "");
  }
}

function tablePath(name: string, isArray: boolean, counts: Map<string, number>): Path {
  const path: (string | number)[] = [];
  const keys = splitKey(name);
  for (const [index, key] of keys.entries()) {
    path.push(key);
    const id = JSON.stringify(path);
    const isLast = index === keys.length - 1;
    if (isLast && isArray) counts.set(id, (counts.get(id) ?? -1) + 1);
    const count = counts.get(id);
    if (count !== undefined) path.push(count);
  }
  return path;
}

function splitKey(text: string): string[] {
  const parts = text.match(/"[^"]*"|'[^']*'|[^.\s]+/g) ?? [];
  return parts.map((part) => (/^["']/.test(part) ? part.slice(1, -1) : part));
}

/** What is open at the end of a line of a value: the closers still wanted, outermost first, as text. */
function stillOpen(line: string, before: string): string {
  let open = before;
  for (let at = 0; at < line.length; ) {
    const quote = open.endsWith('"""') ? '"""' : open.endsWith("'''") ? "'''" : "";
    if (quote !== "") {
      if (line.startsWith(quote, at)) open = open.slice(0, -3);
      at += line.startsWith(quote, at) ? 3 : quote === '"""' && line[at] === "\\" ? 2 : 1;
      continue;
    }
    const rest = line.slice(at);
    const string = /^(?:"""|'''|"(?:[^"\\]|\\.)*"|'[^']*')/.exec(rest)?.[0];
    if (string === '"""' || string === "'''") open += string;
    else if (rest.startsWith("#")) break;
    else if (rest.startsWith("[")) open += "]";
    else if (rest.startsWith("{")) open += "}";
    else if (open !== "" && rest.startsWith(open.slice(-1))) open = open.slice(0, -1);
    at += string?.length ?? 1;
  }
  return open;
}
