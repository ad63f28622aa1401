/**
 * The part of node:path in use where a program starts, for Linux alone: loading that module takes as long as asking the
 * broker something. Pure, but for resolve(), which asks where we are.
 */

/** "/" where the path starts at the root, else "". */
function rootOf(path: string): "" | "/" {
  return path.startsWith("/") ? "/" : "";
}

export function isAbsolute(path: string): boolean {
  return path.startsWith("/");
}

/** Without "." and "..", as far as the words say; no slash at the end unless the path has one. */
function normalize(path: string): string {
  const root = rootOf(path);
  const words: string[] = [];
  for (const word of path.split("/")) {
    if (word === "" || word === ".") continue;
    if (word !== "..") words.push(word);
    else if (words.length > 0 && words[words.length - 1] !== "..") words.pop();
    else if (root === "") words.push(word);
  }
  const text = words.join("/");
  const isFolder = text !== "" && path.endsWith("/");
  return `${root}${text}${isFolder ? "/" : ""}` || (path.endsWith("/") ? "./" : ".");
}

export function join(...parts: readonly string[]): string {
  const given = parts.filter((part) => part !== "");
  return given.length === 0 ? "." : normalize(given.join("/"));
}

/** Absolute, and without a slash at the end. */
export function resolve(...parts: readonly string[]): string {
  let path = "";
  for (let index = parts.length - 1; index >= 0 && !isAbsolute(path); index--) {
    const part = parts[index] ?? "";
    if (part !== "") path = path === "" ? part : `${part}/${path}`;
  }
  const whole = isAbsolute(path) ? path : `${process.cwd()}/${path}`;
  const normal = normalize(whole);
  return normal.length > 1 && normal.endsWith("/") ? normal.slice(0, -1) : normal;
}

function withoutEndingSlashes(path: string): string {
  let end = path.length;
  while (end > 1 && path[end - 1] === "/") end -= 1;
  return path.slice(0, end);
}

export function dirname(path: string): string {
  const whole = withoutEndingSlashes(path);
  const slash = whole.lastIndexOf("/");
  if (slash < 0) return ".";
  if (slash === 1 && isAbsolute(whole)) return "//"; // as POSIX has it, which Linux does not tell from "/"
  return slash === 0 ? "/" : whole.slice(0, slash);
}

export function basename(path: string): string {
  const whole = withoutEndingSlashes(path);
  return whole === "/" ? "" : whole.slice(whole.lastIndexOf("/") + 1);
}
