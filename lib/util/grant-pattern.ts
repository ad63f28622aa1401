/** What a grant may name, and how many a connection may have: the broker's rules, for those who want to know before they ask it. */

/** For messages. The brackets are those of tcp:[::1]:80. */
export const GRANT_PATTERN_RULE = "1 to 128 of A-Z a-z 0-9 . _ : / @ - % [ ] * ?";

/** Of one connection. */
export const MAX_GRANTS = 64;

export function isGrantPattern(pattern: string): boolean {
  return /^[A-Za-z0-9._:/@%[\]*?-]{1,128}$/.test(pattern);
}
