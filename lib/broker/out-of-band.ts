/**
 * What a client sends beside its stream (MSG_OOB). Where it is not asked for, the kernel throws it away within our
 * recvmsg(2), and closes in our thread what came with it, which takes as long as its sender likes (unix(7), Linux 5.15).
 */
import { type BorrowedFd, constants, setsockopt } from "../../ffi/mod.ts";

/** Makes it part of the stream, where it is a breach of the protocol like any other. */
export function keepOutOfBandInLine(connection: BorrowedFd): void {
  setsockopt(connection, constants.SOL_SOCKET, constants.SO_OOBINLINE, 1);
}
