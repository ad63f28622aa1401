/**
 * What the connections of a listener inherit of its options at SOL_SOCKET: what its TCP socket has. After listen() the program
 * sets them on the Unix socket that took its place: that is looked at again when a connection has been accepted, the first
 * one, since those that are set often are trapped by nobody, and the next one after an option that is (seldom-options.ts).
 */
import { type BorrowedFd, constants } from "../../ffi/mod.ts";
import { changed, type OptionValue, setOptions, type Template } from "./options.ts";

export class Inheritance {
  readonly #template: Template;
  #options: readonly OptionValue[];
  /** Of the Unix socket: as it was when the program got it, and as it was when it was looked at last. */
  readonly #atFirst: readonly OptionValue[];
  #seen: readonly OptionValue[];
  #setLater: readonly OptionValue[] = [];
  #isKnown = false;

  /** @param unix  as it is when the program gets it */
  constructor(template: Template, tcp: BorrowedFd, unix: BorrowedFd) {
    this.#template = template;
    this.#options = inheritable(template.commonOptions(tcp));
    this.#atFirst = template.commonValues(unix);
    this.#seen = this.#atFirst;
  }

  get options(): readonly OptionValue[] {
    return this.#options;
  }

  /** Those of them that were set after listen(). */
  get setLater(): readonly OptionValue[] {
    return this.#setLater;
  }

  /** The program sets something. */
  expectChange(): void {
    this.#isKnown = false;
  }

  /** Gives the TCP socket what the Unix socket has been given, and so the connections that it will make. */
  update(tcp: BorrowedFd, unix: BorrowedFd): void {
    if (this.#isKnown) return;
    this.#isKnown = true;
    setOptions(tcp, changed(unix, this.#seen));
    this.#seen = this.#template.commonValues(unix);
    this.#setLater = inheritable(changed(unix, this.#atFirst));
    this.#options = inheritable(this.#template.commonOptions(tcp));
  }
}

/** A connection's priority is its own. */
function inheritable(options: readonly OptionValue[]): OptionValue[] {
  return options.filter(({ option: [, name] }) => name !== constants.SO_PRIORITY);
}
