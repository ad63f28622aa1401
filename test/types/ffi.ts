/** Compile-time tests: what the types of ffi must refuse. `npm run check` compiles this file; nothing runs it. */
import { type BorrowedFd, borrowFd, constants, type OwnedFd, read, spawn, write } from "../../ffi/mod.ts";

declare const owned: OwnedFd;

export const lent: BorrowedFd = owned;

// @ts-expect-error a bare number is no descriptor: who owns it must be said
read(3, new Uint8Array(1));
read(borrowFd(3), new Uint8Array(1));

// @ts-expect-error a borrowed descriptor cannot be closed
borrowFd(3).close();

// @ts-expect-error what would block is null, so the count has to be looked at
export const sent: number = write(owned, new Uint8Array(1));

// @ts-expect-error text has no length in bytes; encode it first
write(owned, "text");

// @ts-expect-error the environment of a program is never implied
spawn({ path: "/bin/true", argv: ["true"] });

// @ts-expect-error kernel numbers are constants
constants.O_RDONLY = 1;
