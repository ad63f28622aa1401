/**
 * The part of XML that protocol files use: elements, attributes, text, comments, the five named entities and character
 * references. No namespaces and no DTD. Every element knows its line.
 */

export type XmlElement = {
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: readonly XmlElement[];
  /** All text directly inside, with the elements cut out. */
  readonly text: string;
  readonly line: number;
};

/** Wrong input; the message begins with file and line. */
export class ScannerError extends Error {
  override readonly name = "ScannerError";

  constructor(message: string, where: { readonly file: string; readonly line: number }) {
    super(`${where.file}:${where.line}: ${message}`);
  }
}

/** @returns the root element @throws ScannerError where the text is not well-formed */
export function parseXml(source: string, file: string): XmlElement {
  return new Parser(source, file).document();
}

const NAME = /[A-Za-z_][\w.-]*/y;
const SPACE = /\s*/y;
const ATTRIBUTE = /([A-Za-z_][\w.-]*)\s*=\s*(?:"([^"<]*)"|'([^'<]*)')/y;
const NAMED: Readonly<Record<string, string>> = { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'" };

class Parser {
  readonly #source: string;
  readonly #file: string;
  #at = 0;
  #line = 1;
  #lineAt = 0;

  constructor(source: string, file: string) {
    this.#source = source;
    this.#file = file;
  }

  document(): XmlElement {
    this.#misc();
    if (!this.#sees("<")) throw this.#error("Expected an element");
    const root = this.#element();
    this.#misc();
    if (this.#at < this.#source.length) throw this.#error("Expected nothing after the root element");
    return root;
  }

  #element(): XmlElement {
    const line = this.#here();
    this.#at += 1;
    const name = this.#match(NAME)?.[0];
    if (name === undefined) throw this.#error("Expected the name of an element");
    const attributes = this.#attributes(name);
    if (this.#skip("/>")) return { name, attributes, children: [], text: "", line };
    if (!this.#skip(">")) throw this.#error(`Expected ">" or an attribute in <${name}>`);
    return { name, attributes, ...this.#content(name, line), line };
  }

  #attributes(element: string): Map<string, string> {
    const attributes = new Map<string, string>();
    for (;;) {
      this.#match(SPACE);
      const found = this.#match(ATTRIBUTE);
      if (found === undefined) return attributes;
      const [, name = "", double, single = ""] = found;
      if (attributes.has(name)) throw this.#error(`Attribute "${name}" of <${element}> is there twice`);
      attributes.set(name, this.#unescape(double ?? single, this.#at - found[0].length));
    }
  }

  #content(name: string, opened: number): { children: XmlElement[]; text: string } {
    const children: XmlElement[] = [];
    let text = "";
    while (this.#at < this.#source.length) {
      if (this.#skip("</")) {
        this.#close(name, opened);
        return { children, text };
      }
      if (this.#skipAside()) continue;
      if (this.#sees("<")) children.push(this.#element());
      else text += this.#text();
    }
    throw new ScannerError(`Element <${name}> is never closed`, { file: this.#file, line: opened });
  }

  #close(name: string, opened: number): void {
    const closed = this.#match(NAME)?.[0];
    if (closed !== name) throw this.#error(`Expected </${name}> for line ${opened}, found </${closed ?? ""}>`);
    this.#match(SPACE);
    if (!this.#skip(">")) throw this.#error(`Expected ">" after </${name}`);
  }

  #text(): string {
    const end = this.#source.indexOf("<", this.#at);
    const raw = this.#source.slice(this.#at, end < 0 ? undefined : end);
    const text = this.#unescape(raw, this.#at);
    this.#at += raw.length;
    return text;
  }

  /** @param start  where in the source `raw` stands, for the line of an error */
  #unescape(raw: string, start: number): string {
    return raw.replace(/&([^;&\s]*);?/g, (whole: string, name: string, offset: number) => {
      const code = /^#(?:x([0-9a-fA-F]{1,6})|(\d{1,7}))$/.exec(name);
      const point =
        code === null ? Number.NaN : Number.parseInt(code[1] ?? code[2] ?? "", code[1] === undefined ? 10 : 16);
      const value = code === null ? NAMED[name] : point <= 0x10ffff ? String.fromCodePoint(point) : undefined;
      if (value !== undefined && whole.endsWith(";")) return value;
      this.#at = start + offset;
      throw this.#error(`Unknown entity "${whole}"`);
    });
  }

  /** Between the top of the file and the root, or after it. */
  #misc(): void {
    do this.#match(SPACE);
    while (this.#skipAside());
  }

  #skipAside(): boolean {
    return this.#skipSpan("<!--", "-->") || this.#skipSpan("<?", "?>");
  }

  #skipSpan(open: string, close: string): boolean {
    if (!this.#sees(open)) return false;
    const end = this.#source.indexOf(close, this.#at + open.length);
    if (end < 0) throw this.#error(`"${open}" has no "${close}"`);
    this.#at = end + close.length;
    return true;
  }

  #match(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#source) ?? undefined;
    if (found !== undefined) this.#at += found[0].length;
    return found;
  }

  #sees(text: string): boolean {
    return this.#source.startsWith(text, this.#at);
  }

  #skip(text: string): boolean {
    if (!this.#sees(text)) return false;
    this.#at += text.length;
    return true;
  }

  /** The current line; counts on from where it was asked last. */
  #here(): number {
    for (; this.#lineAt < this.#at; this.#lineAt += 1) if (this.#source[this.#lineAt] === "\n") this.#line += 1;
    return this.#line;
  }

  #error(message: string): ScannerError {
    return new ScannerError(message, { file: this.#file, line: this.#here() });
  }
}
