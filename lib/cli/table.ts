/** Rows of words as aligned columns. Numbers stand on the right, the last column is not padded. */

/** Control characters of a name that a peer chose must not reach the terminal. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is to be found
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, "\ufffd");
}

/** Those that stringify() of neither JSON nor TOML escapes, in what it has made. */
export function escaped(text: string): string {
  return text.replace(/[\u007f-\u009f]/g, (character) => `\\u00${character.charCodeAt(0).toString(16)}`);
}

export function renderTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, ...rows].map((row) => row.map(printable));
  const widths = head.map((_, column) => Math.max(...all.map((row) => (row[column] ?? "").length)));
  const numeric = head.map((_, column) => rows.every((row) => /^[\d.]+( [KMGT]?i?B)?$/.test(row[column] ?? "")));
  return all
    .map((row) => row.map((cell, column) => pad(cell, widths[column] ?? 0, numeric[column] === true)).join("  "))
    .map((line) => `  ${line.trimEnd()}\n`)
    .join("");
}

function pad(cell: string, width: number, right: boolean): string {
  return right ? cell.padStart(width) : cell.padEnd(width);
}
