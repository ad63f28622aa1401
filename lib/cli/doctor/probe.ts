/** One question that doctor asks, and its answer. */

export type Finding = {
  readonly name: string;
  readonly ok: boolean;
  /** Without it channels or `wrap` do not work at all. */
  readonly essential: boolean;
  /** What was found, and what to do about it when it is not right. */
  readonly detail: string;
  readonly neededFor: string;
};

/** What a probe found; a thrown error is a no, with its message. */
export type Answer = { readonly ok: boolean; readonly detail: string };

export type Probe = {
  readonly name: string;
  readonly essential?: boolean;
  readonly neededFor: string;
  readonly ask: () => Answer;
};

export function runProbe({ name, essential = false, neededFor, ask }: Probe): Finding {
  return { name, ...answer(ask), essential, neededFor };
}

function answer(ask: () => Answer): Answer {
  try {
    return ask();
  } catch (error) {
    return { ok: false, detail: error instanceof Error ? error.message : String(error) };
  }
}

export function yes(detail: string): Answer {
  return { ok: true, detail };
}

export function no(detail: string): Answer {
  return { ok: false, detail };
}
