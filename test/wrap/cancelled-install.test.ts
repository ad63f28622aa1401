/** A signal cancels a trapped call in the instant in which it is given a descriptor: too short for a test to hit. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { constants, errno, spawn, waitForChild } from "../../ffi/mod.ts";
import { assemble } from "../../lib/wrap/bpf.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { BUN, ROOT } from "../helpers/runtimes.ts";

expectNoFdLeaks();

/** linux/seccomp.h: the low half of the second argument in struct seccomp_data. */
const COMMAND = 24;

/** What the kernel says then, to every such ioctl(2). */
const CANCELLED = assemble([
  { op: "load", offset: COMMAND },
  { op: "equal", value: constants.SECCOMP_IOCTL_NOTIF_ADDFD, no: "other" },
  { op: "return", value: constants.SECCOMP_RET_ERRNO | errno.ESRCH },
  { op: "label", name: "other" },
  { op: "return", value: constants.SECCOMP_RET_ALLOW },
]);

const INSTALL = `
import { addFd, memfdCreate } from ${JSON.stringify(join(ROOT, "ffi/mod.ts"))};
const fd = memfdCreate("any");
process.exit(addFd(fd, 1n, fd, { kind: "lowest" }, 0) === undefined ? 7 : 1);
`;

test("a call that is cancelled while a descriptor is given to it is gone, and that is no error", () => {
  const { pid, listener } = spawn({
    path: BUN.binary,
    argv: ["bun", "-e", INSTALL],
    env: Object.entries(process.env).map(([name, value]) => `${name}=${value}`),
    filter: { program: CANCELLED, noNewPrivs: true },
  });
  listener?.close();
  expect(waitForChild(pid, true)).toEqual({ kind: "exited", code: 7 });
});
