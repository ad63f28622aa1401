/**
 * How to sleep until the broker answers: in recvmsg(2), or in poll(2) and then receive. Who sleeps in recvmsg(2) on a stream
 * socket is woken twice: when the broker has read the request, too, since the wake-up for room to write has no key there.
 * Between two processors that is welcome, for ours is awake when the answer comes; on one it is two changes of process for
 * nothing. Where the broker runs is not for us to know, so both are measured. Pure.
 */

/** Answers at the beginning for which both take turns: the first ones are slow in any case. */
const FIRST_TURNS = 64;
/** After so many the other way is tried. Odd, so that calls that take turns are both measured. */
const TRY_EVERY = 33;
/** Of one answer in the average. */
const WEIGHT = 1 / 4;
/** What takes longer than so many times the average is counted as that: we were not running, or the broker was not. */
const MOST_TIMES = 2;

export class SleepChoice {
  #receiveMs = 0;
  #pollMs = 0;
  #answers = 0;

  /** @returns whether to sleep in recvmsg(2) until the next answer */
  get isInReceive(): boolean {
    const isFaster = this.#receiveMs <= this.#pollMs;
    if (this.#answers < FIRST_TURNS) return this.#answers % 2 === 0;
    return this.#answers % TRY_EVERY === 0 ? !isFaster : isFaster;
  }

  /** An answer took so long, slept for as `isInReceive` said. */
  took(ms: number): void {
    if (this.isInReceive) this.#receiveMs = average(this.#receiveMs, ms);
    else this.#pollMs = average(this.#pollMs, ms);
    this.#answers += 1;
  }
}

function average(before: number, ms: number): number {
  return before === 0 ? ms : before + (Math.min(ms, before * MOST_TIMES) - before) * WEIGHT;
}
