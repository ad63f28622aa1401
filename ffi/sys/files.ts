/** Files by path, as far as every start looks at some: the runtime's node:fs takes longer to load than all of it. */
import { calls } from "../calls.ts";
import { AT_FDCWD, O_DIRECTORY, O_RDONLY, X_OK } from "../constants.ts";
import { check, retry, SyscallError } from "../errno.ts";
import { allocateForever, cString } from "../memory.ts";
import { open, read } from "./io.ts";

const BUFFER = allocateForever(1 << 15);

// struct linux_dirent64
const LENGTH_AT = 16;
const NAME_AT = 19;

const decoder = new TextDecoder();

/** A file of the kernel's, such as one of /proc; 32 KiB of it at most. @throws SyscallError */
export function readSmallFile(path: string): string {
  using file = open(path, O_RDONLY);
  const { bytes } = BUFFER;
  let length = 0;
  for (;;) {
    const count = read(file, bytes.subarray(length)) ?? 0;
    length += count;
    if (count === 0 || length === bytes.length) return decoder.decode(bytes.subarray(0, length));
  }
}

/** Whether we may execute it, by our real user, as access(2) asks. @throws SyscallError EACCES when not */
export function checkExecutable(path: string): void {
  check(calls.faccessat(AT_FDCWD, cString(path), X_OK), "access", path);
}

/** The names in a folder, in no order. @throws SyscallError ENOENT, ENOTDIR, EACCES … */
export function listFolder(path: string): string[] {
  using folder = open(path, O_RDONLY | O_DIRECTORY);
  const { bytes, data } = BUFFER;
  const names: string[] = [];
  for (;;) {
    const count = retry(() => calls.getdents64(folder.number, bytes, bytes.length));
    if (count < 0) throw new SyscallError("getdents64", -count, path);
    if (count === 0) return names;
    for (let at = 0; at < count; at += data.getUint16(at + LENGTH_AT, true)) {
      const name = decoder.decode(bytes.subarray(at + NAME_AT, bytes.indexOf(0, at + NAME_AT)));
      if (name !== "." && name !== "..") names.push(name);
    }
  }
}
