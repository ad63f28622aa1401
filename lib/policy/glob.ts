/** Globs over names: * is any run of characters, ? is one. Linear backtracking only: no pattern can take long. */

/** Without globs everything fits. */
export function matchesAny(globs: readonly string[] | undefined, text: string): boolean {
  return globs === undefined || globs.some((glob) => matchGlob(glob, text));
}

export function matchGlob(pattern: string, name: string): boolean {
  let at = 0;
  let patternAt = 0;
  let starAt = -1;
  let resumeAt = 0;
  while (at < name.length) {
    if (pattern[patternAt] === "*") {
      starAt = patternAt;
      resumeAt = at;
      patternAt += 1;
    } else if (patternAt < pattern.length && (pattern[patternAt] === "?" || pattern[patternAt] === name[at])) {
      patternAt += 1;
      at += 1;
    } else if (starAt >= 0) {
      // Only the last star needs to be tried again: an earlier one already matched as early as it could.
      patternAt = starAt + 1;
      resumeAt += 1;
      at = resumeAt;
    } else return false;
  }
  while (pattern[patternAt] === "*") patternAt += 1;
  return patternAt === pattern.length;
}
