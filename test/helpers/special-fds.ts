/** Descriptors of kinds that nothing of ours makes: sockets of a peer, eventfds, pidfds, dma-bufs of a device. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { accept, bind, constants, listen, type OwnedFd, poll, recvmsg, socket, unixAddress } from "../../ffi/mod.ts";
import { type Requirement, requires } from "./requires.ts";
import { makeRuntimeDir } from "./runtime-dir.ts";

const PYTHON = "/usr/bin/python3";
const PROGRAM = join(import.meta.dirname, "../fixtures/programs/special-fds.py");

export const SPECIAL_FDS: Requirement = requires.file(PYTHON, "python3");
/** A dma-buf comes from a device, or from one of these two, which a kernel may have without any. */
export const DMA_BUF_SOURCES: Readonly<Record<"udmabuf" | "dma-heap", Requirement>> = {
  udmabuf: requires.feature(existsSync("/dev/udmabuf"), "this kernel has no /dev/udmabuf to make a dma-buf with"),
  "dma-heap": requires.feature(
    existsSync("/dev/dma_heap/system"),
    "this kernel has no /dev/dma_heap/system to make a dma-buf with",
  ),
};

export type SpecialFds = { readonly fds: readonly OwnedFd[] } & Disposable;

/** Has them made by a process that lives as long as this is not disposed. */
export function makeSpecialFds(...kinds: readonly string[]): SpecialFds {
  using directory = makeRuntimeDir();
  const path = `${directory.path}/s`;
  using listener = socket(constants.AF_UNIX, constants.SOCK_STREAM);
  bind(listener, unixAddress(path), path);
  listen(listener, 1);
  spawn(PYTHON, [PROGRAM, path, ...kinds], { stdio: "inherit" });
  poll([{ fd: listener, events: constants.EPOLLIN }], -1);
  const connection = accept(listener)?.fd;
  if (connection === undefined) throw new Error("Nobody connected");
  poll([{ fd: connection, events: constants.EPOLLIN }], -1);
  const fds = recvmsg(connection)?.fds ?? [];
  return {
    fds,
    [Symbol.dispose]: () => {
      for (const fd of fds) fd.close();
      connection.close();
    },
  };
}
