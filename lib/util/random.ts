/** Names that nobody guesses. Not by node:crypto, which takes longer to load than everything else of a command. */

/** That many random bytes as hexadecimal digits. */
export function randomHex(count: number): string {
  const bytes = crypto.getRandomValues(new Uint8Array(count));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
