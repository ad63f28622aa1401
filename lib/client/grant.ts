/** Authority that is handed on: rights on names, as a connection that has them and no other. */
import type { BorrowedFd, OwnedFd } from "../../ffi/mod.ts";
import type { FailureError } from "../errors.ts";
import type { AnyEvent } from "../protocol/messages.ts";
import { SHMLINK_MANAGER_V1_RIGHTS } from "../protocol/shmlink-v1.gen.ts";
import { failureOf } from "./failure.ts";

export type RightName = keyof typeof SHMLINK_MANAGER_V1_RIGHTS;
export const RIGHTS = Object.keys(SHMLINK_MANAGER_V1_RIGHTS) as readonly RightName[]; // its keys are what RightName says

/** `name` is a pattern: * any characters, ? one. */
export type GrantSpec = { readonly rights: readonly RightName[]; readonly name: string };

export type ContextOptions = {
  /** A listening Unix stream socket. */
  readonly listener: BorrowedFd;
  /** A pipe's reading end or a socket: the context ends when the other end is closed. */
  readonly closeFd: BorrowedFd;
  readonly engine: string;
  readonly app: string;
  readonly instance: string;
};

export function rightsBits(rights: readonly RightName[]): number {
  return rights.reduce((bits, right) => bits | SHMLINK_MANAGER_V1_RIGHTS[right], 0);
}

export function rightsOf(bits: number): RightName[] {
  return RIGHTS.filter((right) => (bits & SHMLINK_MANAGER_V1_RIGHTS[right]) !== 0);
}

type MintedLink = { revoke(rights: number, name: string): void; forget(): void };

/** A connection that was minted. Its descriptor is for somebody else; what is left here can take the rights away again. */
export class Minted implements Disposable {
  failure: FailureError | undefined;
  #fd: OwnedFd | undefined;
  readonly #link: MintedLink;
  #closed = false;

  constructor(link: MintedLink) {
    this.#link = link;
  }

  get settled(): boolean {
    return this.#fd !== undefined || this.failure !== undefined;
  }

  handle(message: AnyEvent<OwnedFd>): void {
    if (message.interface !== "shmlink_grant_v1") return;
    const { event } = message;
    if (event.kind === "connection") this.#fd = event.fd;
    else this.failure = failureOf(event.code, event.message);
  }

  /** The connection: to be lent to a program that is started, or taken. */
  get fd(): OwnedFd {
    if (this.#fd === undefined) throw new Error("Cannot use a connection that was not minted");
    return this.#fd;
  }

  /** Takes rights away, from the holder and from all to whom it has passed them on. What they have received stays theirs.
   *  @param name  exactly as it was granted; all of them without it */
  revoke(rights: readonly RightName[] = RIGHTS, name = ""): void {
    this.#link.revoke(rightsBits(rights), name);
  }

  /** Gives up the power to revoke, and our copy of the connection. Safe to call twice. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#fd?.close();
    this.#link.forget();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
