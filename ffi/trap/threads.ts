/** The threads whose calls machine code answers: struct thread of machine/trap-state.h. */
import { calls } from "../calls.ts";
import type { BorrowedFd } from "../fd.ts";
import type { NativeMemory } from "../memory.ts";

const [KEPT, UNTIL] = [44, 22_480];
const [THREADS, THREAD_BYTES, MAX_THREADS] = [2576, 1056, 16];
const [PIDFD, EPOLL_COUNT, EPOLLS, MAX_EPOLLS, FDINFO, MAX_NUMBERS] = [4, 8, 12, 5, 32, 256];

export class TrapThreads {
  static readonly MAX: number = MAX_THREADS;
  readonly #memory: NativeMemory;

  constructor(memory: NativeMemory) {
    this.#memory = memory;
  }

  /** What has been read of /proc of a thread in that place is kept: release() first for another thread.
   *  @param pidfd  lent until release() */
  set(index: number, tid: number, pidfd: BorrowedFd): void {
    const at = THREADS + index * THREAD_BYTES;
    const { data } = this.#memory;
    data.setInt32(at + PIDFD, pidfd.number, true);
    data.setInt32(at + EPOLL_COUNT, -1, true);
    data.setInt32(at, tid, true);
  }

  /** The epoll sets of a thread: its connect() is left until they are known. Later ones are found by machine code, which
   *  looks for them again from time to time. @returns whether that fits */
  setEpolls(index: number, epolls: readonly number[] | undefined): boolean {
    const at = THREADS + index * THREAD_BYTES;
    const { data } = this.#memory;
    const fits = epolls !== undefined && epolls.length <= MAX_EPOLLS;
    data.setInt32(at + EPOLL_COUNT, fits ? epolls.length : -1, true);
    data.setBigUint64(UNTIL + index * 8, 0n, true);
    if (fits) for (const [place, number] of epolls.entries()) data.setInt32(at + EPOLLS + place * 4, number, true);
    return fits;
  }

  /** Forgets a thread and closes what was open of it. */
  release(index: number): void {
    const { data } = this.#memory;
    data.setInt32(THREADS + index * THREAD_BYTES, 0, true);
    const at = THREADS + index * THREAD_BYTES + FDINFO;
    for (let place = at; place < at + MAX_NUMBERS * 4; place += 4) {
      const file = data.getInt32(place, true);
      if (file === 0) continue;
      calls.close(file);
      data.setInt32(place, 0, true);
      data.setInt32(KEPT, data.getInt32(KEPT, true) - 1, true);
    }
  }
}
