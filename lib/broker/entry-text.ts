/** What an entry says of its kind, as JSON. An entry is one message, and names, paths and lists from others can be long: what is
 *  long is said shorter until all of it fits. Pure. */
import { plainText } from "./plain-text.ts";

/** Of all texts of an entry together: a message has 4096 bytes, of which numbers, lengths and padding take 48. */
const MAX_TEXTS_BYTES = 4048;
/** Bytes for each text of unknown length, as long as there is room, and when there is less. */
const BUDGETS = [400, 100, 0];

const encoder = new TextEncoder();

/** @param make  what there is to say, with so many bytes at most for each text of unknown length */
export function fitDetails(name: string, make: (maxBytes: number) => object): string {
  let text = "";
  for (const maxBytes of BUDGETS) {
    text = JSON.stringify(make(maxBytes));
    if (fits(name, text)) break;
  }
  return text;
}

/** A path for people, cut to what the rest of the entry leaves. */
export function fitPath(path: string, name: string, details: string): string {
  if (fits(path, name, details)) return path;
  const used = bytesOf(name) + bytesOf(details);
  return plainText(path, Math.max(0, MAX_TEXTS_BYTES - used));
}

function fits(...texts: readonly string[]): boolean {
  const units = texts.reduce((sum, { length }) => sum + length, 0);
  return units * 3 <= MAX_TEXTS_BYTES || texts.reduce((sum, text) => sum + bytesOf(text), 0) <= MAX_TEXTS_BYTES;
}

function bytesOf(text: string): number {
  return encoder.encode(text).length;
}
