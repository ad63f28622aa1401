/** Why a connection to a registered listener goes over TCP, beside errors of system calls: what wrapped clients report, and all
 *  that is shown of a report. Words only. */
export const FALLBACK = {
  completions: "the program wants completions of MSG_ZEROCOPY",
  otherInterface: "it is bound to another network interface",
  noPort: "no local port is free for this destination",
  fastOpen: "too much is sent by TCP Fast Open, or what cannot be read",
  interrupted: "a signal interrupted connect()",
} as const;

export type FallbackReason = (typeof FALLBACK)[keyof typeof FALLBACK];

const REASONS: readonly string[] = Object.values(FALLBACK);

export function isFallbackReason(text: string): text is FallbackReason {
  return REASONS.includes(text);
}
