/** Reading a file that a person names: one that is no file, or that has no end, is an error and not a wait for ever. */
import { isUtf8 } from "node:buffer";
import { closeSync, constants, fstatSync, openSync, readSync, type Stats, statSync } from "node:fs";

export type ReadTextOptions = {
  readonly maxBytes: number;
  /** Read to the end of a pipe too, such as the one of a shell's <(…), however long that takes. */
  readonly pipes?: boolean;
};

/** @throws Error with what is wrong for a message, or with the `code` of the system's error */
export function readText(path: string, { maxBytes, pipes = false }: ReadTextOptions): string {
  checkKind(statSync(path), pipes); // first: opening a device may do something
  const fd = openSync(path, constants.O_RDONLY | (pipes ? 0 : constants.O_NONBLOCK));
  try {
    checkKind(fstatSync(fd), pipes);
    return decode(readAll(fd, maxBytes));
  } finally {
    closeSync(fd);
  }
}

function checkKind(stats: Stats, pipes: boolean): void {
  const isNull = stats.isCharacterDevice() && stats.rdev === NULL_DEVICE;
  if (stats.isFile() || isNull || (pipes && stats.isFIFO())) return;
  const kind = stats.isDirectory()
    ? "a directory"
    : stats.isFIFO()
      ? "a FIFO"
      : stats.isSocket()
        ? "a socket"
        : "a device";
  throw new Error(`it is ${kind}, a file is wanted`);
}

/** /dev/null, which is how one says "no file" (devices.txt of the kernel: 1, 3). */
const NULL_DEVICE = (1 << 8) | 3;

function readAll(fd: number, maxBytes: number): Buffer {
  const buffer = Buffer.alloc(maxBytes + 1);
  let length = 0;
  while (length <= maxBytes) {
    const count = readSync(fd, buffer, length, buffer.length - length, null);
    if (count === 0) return buffer.subarray(0, length);
    length += count;
  }
  throw new Error(`it is longer than ${maxBytes} bytes, the most that is read`);
}

/** What is no UTF-8 would become another text than the one that was meant, and no word would be said of it. */
function decode(bytes: Buffer): string {
  if (isUtf8(bytes)) return bytes.toString("utf8");
  for (let start = 0, line = 1; ; line += 1) {
    const end = bytes.indexOf(NEWLINE, start);
    if (end < 0 || !isUtf8(bytes.subarray(start, end))) throw new Error(`its line ${line} is no valid UTF-8`);
    start = end + 1;
  }
}

const NEWLINE = 0x0a;
