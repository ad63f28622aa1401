/** What engine, app and instance of a context may be called: the broker's rule, for those who want to know before; and how
 *  a context is called that has them. */

/** For messages. */
export const CONTEXT_WORD_RULE = "1 to 64 of A-Z a-z 0-9 . _ : @ + -";

export function isContextWord(word: string): boolean {
  return /^[A-Za-z0-9._:@+-]{1,64}$/.test(word);
}

/** As listings, messages and policies' services call it: "engine/app/instance". */
export function contextName(words: {
  readonly engine: string;
  readonly app: string;
  readonly instance: string;
}): string {
  return `${words.engine}/${words.app}/${words.instance}`;
}

/** The word in quotes, cut to what fits on a line. */
export function quoteWord(word: string): string {
  return JSON.stringify(word.slice(0, 70));
}
