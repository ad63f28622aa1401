/** A protocol file as checked values: Wayland's protocol language without what shmlink does not use. Pure. */
import type { ArgKind } from "../../wire/types.ts";
import { parseXml, ScannerError, type XmlElement } from "./xml.ts";

export type Prose = { readonly summary: string; readonly body: string };

export type ArgModel = {
  readonly name: string;
  readonly kind: ArgKind;
  readonly nullable: boolean;
  readonly interface: string | undefined;
  readonly enum: string | undefined;
  readonly summary: string;
  readonly line: number;
};

export type MessageModel = {
  readonly name: string;
  readonly destructor: boolean;
  readonly since: number;
  readonly prose: Prose;
  readonly args: readonly ArgModel[];
};

export type EntryModel = { readonly name: string; readonly value: number; readonly summary: string };
export type EnumModel = { readonly name: string; readonly prose: Prose; readonly entries: readonly EntryModel[] };

export type InterfaceModel = {
  readonly name: string;
  readonly version: number;
  readonly prose: Prose;
  readonly requests: readonly MessageModel[];
  readonly events: readonly MessageModel[];
  readonly enums: readonly EnumModel[];
  /** For errors about references between interfaces. */
  readonly file: string;
};

const ARG_KINDS: readonly string[] = [
  "int",
  "uint",
  "fixed",
  "string",
  "object",
  "new_id",
  "array",
  "fd",
] satisfies ArgKind[];

/** Reads one file. @throws ScannerError with file and line */
export function readProtocol(source: string, file: string): InterfaceModel[] {
  const root = parseXml(source, file);
  const reader = new Reader(file);
  reader.expect(root, "protocol", ["name"]);
  reader.onlyChildren(root, ["copyright", "description", "interface"]);
  return reader.children(root, "interface").map((element) => reader.interface(element));
}

/** Checks what files say of each other: names once, and every interface and enum that is named exists. */
export function checkReferences(interfaces: readonly InterfaceModel[]): void {
  const names = new Set<string>();
  const enums = new Set<string>();
  for (const { name, file, enums: own } of interfaces) {
    if (names.has(name)) throw new ScannerError(`Interface "${name}" is there twice`, { file, line: 1 });
    names.add(name);
    for (const item of own) enums.add(`${name}.${item.name}`);
  }
  for (const { name, file, requests, events } of interfaces) {
    for (const arg of [...requests, ...events].flatMap(({ args }) => args)) {
      const where = { file, line: arg.line };
      if (arg.interface !== undefined && !names.has(arg.interface)) {
        throw new ScannerError(`Argument "${arg.name}" names interface "${arg.interface}", which is nowhere`, where);
      }
      if (arg.enum !== undefined && !enums.has(arg.enum.includes(".") ? arg.enum : `${name}.${arg.enum}`)) {
        throw new ScannerError(`Argument "${arg.name}" names enum "${arg.enum}", which is nowhere`, where);
      }
    }
  }
}

class Reader {
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  interface(element: XmlElement): InterfaceModel {
    this.expect(element, "interface", ["name", "version"]);
    this.onlyChildren(element, ["description", "request", "event", "enum"]);
    const version = this.#integer(element, "version");
    const messages = (kind: string): MessageModel[] =>
      this.#distinct(element, kind).map((child) => this.#message(child, version));
    return {
      name: this.#name(element),
      version,
      prose: this.#prose(element),
      requests: messages("request"),
      events: messages("event"),
      enums: this.#distinct(element, "enum").map((child) => this.#enum(child)),
      file: this.#file,
    };
  }

  #message(element: XmlElement, version: number): MessageModel {
    this.expect(element, element.name, ["name", "type", "since"], ["name"]);
    this.onlyChildren(element, ["description", "arg"]);
    const type = element.attributes.get("type");
    if (type !== undefined && type !== "destructor")
      throw this.#error(element, `Unknown type "${type}": only destructor`);
    const since = element.attributes.has("since") ? this.#integer(element, "since") : 1;
    if (since > version) throw this.#error(element, `It is since version ${since}, the interface has only ${version}`);
    const args = this.#distinct(element, "arg").map((child) => this.#arg(child));
    return { name: this.#name(element), destructor: type === "destructor", since, prose: this.#prose(element), args };
  }

  #arg(element: XmlElement): ArgModel {
    this.expect(element, "arg", ["name", "type", "interface", "allow-null", "enum", "summary"], ["name", "type"]);
    const type = element.attributes.get("type") ?? "";
    if (!ARG_KINDS.includes(type)) throw this.#error(element, `Unknown type "${type}": ${ARG_KINDS.join(", ")}`);
    const interfaceName = element.attributes.get("interface");
    const nullable = element.attributes.get("allow-null") === "true";
    if (nullable && type !== "string" && type !== "object") throw this.#error(element, `A ${type} cannot be null`);
    if (interfaceName !== undefined && type !== "new_id" && type !== "object") {
      throw this.#error(element, `A ${type} has no interface`);
    }
    const name = this.#name(element);
    if (name === "kind")
      throw this.#error(element, 'An argument cannot be called "kind": that says which message it is');
    const untyped = type === "new_id" && interfaceName === undefined;
    const kind = untyped ? "untyped_new_id" : (type as ArgKind); // it is one of ARG_KINDS
    const summary = element.attributes.get("summary") ?? "";
    return {
      name,
      kind,
      nullable,
      interface: interfaceName,
      enum: element.attributes.get("enum"),
      summary,
      line: element.line,
    };
  }

  #enum(element: XmlElement): EnumModel {
    this.expect(element, "enum", ["name", "bitfield", "since"], ["name"]);
    this.onlyChildren(element, ["description", "entry"]);
    const entries = this.#distinct(element, "entry").map((entry) => {
      this.expect(entry, "entry", ["name", "value", "summary", "since"], ["name", "value"]);
      return {
        name: this.#name(entry),
        value: this.#integer(entry, "value"),
        summary: entry.attributes.get("summary") ?? "",
      };
    });
    return { name: this.#name(element), prose: this.#prose(element), entries };
  }

  #prose(element: XmlElement): Prose {
    const [description, second] = this.children(element, "description");
    if (second !== undefined) throw this.#error(second, "A second description");
    if (description === undefined) return { summary: "", body: "" };
    this.expect(description, "description", ["summary"]);
    return { summary: description.attributes.get("summary") ?? "", body: unindent(description.text) };
  }

  children(element: XmlElement, name: string): XmlElement[] {
    return element.children.filter((child) => child.name === name);
  }

  onlyChildren(element: XmlElement, allowed: readonly string[]): void {
    const stranger = element.children.find(({ name }) => !allowed.includes(name));
    if (stranger !== undefined) throw this.#error(stranger, `<${stranger.name}> does not belong in <${element.name}>`);
  }

  expect(element: XmlElement, name: string, allowed: readonly string[], required: readonly string[] = allowed): void {
    if (element.name !== name) throw this.#error(element, `Expected <${name}>, found <${element.name}>`);
    for (const attribute of element.attributes.keys()) {
      if (!allowed.includes(attribute)) throw this.#error(element, `Unknown attribute "${attribute}" of <${name}>`);
    }
    for (const attribute of required) {
      if (!element.attributes.has(attribute)) throw this.#error(element, `<${name}> lacks attribute "${attribute}"`);
    }
  }

  #distinct(element: XmlElement, childName: string): XmlElement[] {
    const seen = new Set<string | undefined>();
    for (const child of this.children(element, childName)) {
      const name = child.attributes.get("name");
      if (seen.has(name)) throw this.#error(child, `${childName} "${name ?? ""}" is there twice`);
      seen.add(name);
    }
    return this.children(element, childName);
  }

  #name(element: XmlElement): string {
    const name = element.attributes.get("name") ?? "";
    if (!/^[a-z][a-z0-9_]*$/.test(name))
      throw this.#error(element, `Name "${name}" is not lower case with underscores`);
    return name;
  }

  #integer(element: XmlElement, attribute: string): number {
    const text = element.attributes.get(attribute) ?? "";
    if (!/^(\d+|0x[0-9a-fA-F]+)$/.test(text)) throw this.#error(element, `${attribute} "${text}" is not a number`);
    return Number(text);
  }

  #error(element: XmlElement, message: string): ScannerError {
    return new ScannerError(message, { file: this.#file, line: element.line });
  }
}

/** Paragraphs as they stand, without the indentation of the XML. */
function unindent(text: string): string {
  return text
    .split("\n")
    .map((line) => line.trim())
    .join("\n")
    .trim();
}
