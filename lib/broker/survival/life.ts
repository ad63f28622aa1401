/** When processes end: those whose things are there although no connection of theirs is. A process is a pid and the moment
 *  at which it began, so that a number that is used again is somebody else. */
import { readFileSync } from "node:fs";
import { constants, type OwnedFd, pidfdOpen, SyscallError } from "../../../ffi/mod.ts";
import type { Reactor, Registration } from "../../transport/reactor.ts";
import { reapChild } from "../../util/reap-child.ts";

type Watched = { readonly pidfd: OwnedFd; readonly registration: Registration; readonly callbacks: Set<() => void> };

/** In clock ticks since the system's start; "" when there is no such process, or none that we may see. */
export function startTimeOf(pid: number): string {
  try {
    const text = pid === 0 ? "" : readFileSync(`/proc/${pid}/stat`, "utf8");
    return text.slice(text.lastIndexOf(")") + 2).split(" ")[19] ?? ""; // field 22; the name in parentheses may be anything
  } catch {
    return "";
  }
}

export class Life implements Disposable {
  readonly #reactor: Reactor;
  readonly #watched: Map<number, Watched> = new Map();

  constructor(reactor: Reactor) {
    this.#reactor = reactor;
  }

  /** Calls once when that process ends. @param started  its startTimeOf()
   *  @returns a function that gives the wait up, or undefined when it has ended already */
  watch(pid: number, started: string, onEnd: () => void): (() => void) | undefined {
    const watched = this.#watched.get(pid) ?? this.#open(pid);
    if (watched === undefined) return undefined;
    watched.callbacks.add(onEnd);
    // Asked while we hold it: from here on the number cannot become somebody else's unseen.
    const isHim = started !== "" && startTimeOf(pid) === started;
    const cancel = (): void => this.#cancel(pid, watched, onEnd);
    if (isHim) return cancel;
    cancel();
    return undefined;
  }

  /** Waits for a child of ours once it has ended: nobody else has its number before. */
  reap(pid: number): void {
    this.#open(pid)?.callbacks.add(() => reapChild(pid, false));
  }

  #open(pid: number): Watched | undefined {
    if (pid === 0) return undefined;
    try {
      const pidfd = pidfdOpen(pid);
      const registration = this.#reactor.add(pidfd, constants.EPOLLIN, () => this.#ended(pid));
      const watched = { pidfd, registration, callbacks: new Set<() => void>() };
      this.#watched.set(pid, watched);
      return watched;
    } catch (error) {
      if (error instanceof SyscallError) return undefined;
      throw error;
    }
  }

  #ended(pid: number): void {
    const watched = this.#watched.get(pid);
    if (watched === undefined) return;
    this.#close(pid, watched);
    for (const callback of watched.callbacks) callback();
  }

  #cancel(pid: number, watched: Watched, callback: () => void): void {
    watched.callbacks.delete(callback);
    if (watched.callbacks.size === 0 && this.#watched.get(pid) === watched) this.#close(pid, watched);
  }

  #close(pid: number, { registration, pidfd }: Watched): void {
    this.#watched.delete(pid);
    registration.remove();
    pidfd.close();
  }

  [Symbol.dispose](): void {
    for (const [pid, watched] of [...this.#watched]) this.#close(pid, watched);
  }
}
