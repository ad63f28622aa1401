/** Which descriptors can be closed where we stand. Only those of which the kernel itself says that it takes no time, whoever
 *  has opened them: everything else may be a file of a server that does not answer, gigabytes, a TCP connection that lingers,
 *  or a socket in whose queue any of these lies. */
import { borrowFd, constants, fstat, memfdCreate, pipe, SyscallError, shutdown, unreadBytes } from "../../ffi/mod.ts";

/** Memory files above that are given back elsewhere: a megabyte takes less than a tenth of a millisecond. */
export const MOST_STORED_BYTES: number = 1 << 20;

export type Devices = { readonly pipes: number; readonly memory: number };

/** Where pipes and memory files are: file systems that nobody can mount, so that nothing else passes for one. */
export function knownDevices(): Devices {
  using memory = memfdCreate("shmlink:probe");
  const { reader, writer } = pipe();
  const devices = { pipes: fstat(reader).device, memory: fstat(memory).device };
  for (const end of [reader, writer]) end.close();
  return devices;
}

/** Pipes, and memory files without much in them. */
export function isHarmless(number: number, { pipes, memory }: Devices): boolean {
  try {
    const { mode, device, storedBytes } = fstat(borrowFd(number));
    const kind = mode & constants.S_IFMT;
    if (kind === constants.S_IFIFO) return device === pipes;
    return kind === constants.S_IFREG && device === memory && storedBytes <= MOST_STORED_BYTES;
  } catch (error) {
    if (error instanceof SyscallError) return false; // a file whose server has gone, say
    throw error;
  }
}

/** A connected Unix socket that only we hold: nothing can be sent to it from now on. @returns whether nothing waits in it,
 *  among which there could be descriptors */
export function isDrained(number: number): boolean {
  const fd = borrowFd(number);
  try {
    shutdown(fd, constants.SHUT_RDWR);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error; // ENOTCONN: nobody is there to send anything
  }
  return unreadBytes(fd) === 0;
}
