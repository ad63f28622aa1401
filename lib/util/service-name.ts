/** What a service or an offer may be called: the broker's rule, for those who want to know before they ask it. */

/** For messages. */
export const SERVICE_NAME_RULE = "1 to 128 of A-Z a-z 0-9 . _ : / @ -";

export function isServiceName(name: string): boolean {
  return /^[A-Za-z0-9._:/@-]{1,128}$/.test(name);
}

/** The name in quotes, cut to what fits on a line. */
export function quoteName(name: string): string {
  return JSON.stringify(name.length > 140 ? `${name.slice(0, 140)}…` : name);
}
