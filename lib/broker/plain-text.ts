/** Text from a peer on its way to other people's terminals and into messages of limited size. Pure. */

const encoder = new TextEncoder();
const decoder = new TextDecoder();
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g;

/** `text` without control characters, cut to `maxBytes` of UTF-8 at a character's end. */
export function plainText(text: string, maxBytes: number): string {
  const clean = text.replace(CONTROL, "?");
  const bytes = encoder.encode(clean);
  if (bytes.length <= maxBytes) return clean;
  let end = maxBytes;
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1;
  return decoder.decode(bytes.subarray(0, end));
}
