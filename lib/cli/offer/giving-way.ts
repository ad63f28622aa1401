/** Which of those who wait for a taker gives its place to a new one. Pure. */

/**
 * Of the host with the most, the one that has waited longest: who floods one host pushes out his own.
 * @param waiting  the oldest first  @returns undefined when nobody waits
 */
export function whoGivesWay<T extends { readonly host: string }>(waiting: Iterable<T>): T | undefined {
  const byHost = new Map<string, { readonly oldest: T; count: number }>();
  for (const one of waiting) {
    const known = byHost.get(one.host);
    if (known === undefined) byHost.set(one.host, { oldest: one, count: 1 });
    else known.count += 1;
  }
  let most: { readonly oldest: T; readonly count: number } | undefined;
  for (const host of byHost.values()) if (host.count > (most?.count ?? 0)) most = host; // of equals the oldest
  return most?.oldest;
}
