/**
 * Descriptors that were sent on a Unix stream socket and that nobody has received. The kernel counts those of all sockets of
 * who has sent them, and sends no more of his when they are RLIMIT_NOFILE (unix(7), ETOOMANYREFS): who has them sent to himself
 * and does not read would keep everybody else from having any. Pure: what the kernel says is handed in.
 *
 * What is unread is what was sent last. The kernel says how much memory that takes (SIOCOUTQ), of which each message is its
 * bytes and some more: going back by what it takes at least, none is left out, and some that were received may be counted.
 */

/** struct sk_buff and struct skb_shared_info, in whole cache lines: so much or more on every 64-bit kernel. */
const HEAD_BYTES = 256;
const TAIL_BYTES = 320;
/** No allocation with such a tail is smaller. */
const LEAST_BYTES = 512;
/** With the tail: such buffers are of a size of their own where the kernel has no memory cgroups. */
const SMALL_BYTES = 640;
/** More is partly in pages. */
const PAGE_BYTES = 4096;
/** Of a socket's usual buffer there are no more. */
const MANY_MESSAGES = 512;

type Message = { readonly bytes: number; readonly fds: number };

export class InFlight {
  readonly #sent: Message[] = [];
  #fds = 0;

  /** As far as is known; more may have been received. */
  get fds(): number {
    return this.#fds;
  }

  /** Whether it is time to ask, so that what is remembered is no more than a socket holds. */
  get isLong(): boolean {
    return this.#sent.length > MANY_MESSAGES;
  }

  /** A message was sent. */
  note(bytes: number, fds: number): void {
    if (this.#fds + fds === 0) return; // nothing that came before it counts
    this.#sent.push({ bytes, fds });
    this.#fds += fds;
  }

  /** Forgets what was received. @param takenBytes  by what is unread */
  settle(takenBytes: number): void {
    let first = this.#sent.length;
    for (let left = takenBytes; left > 0 && first > 0; first--) left -= leastMemory(this.#sent[first - 1]?.bytes ?? 0);
    for (const { fds } of this.#sent.splice(0, first)) this.#fds -= fds;
  }
}

/** Of one message: what is allocated at once is rounded up to a power of two. */
function leastMemory(bytes: number): number {
  const data = Math.max(bytes + TAIL_BYTES, LEAST_BYTES);
  const isRounded = data > SMALL_BYTES && data <= PAGE_BYTES;
  return HEAD_BYTES + (isRounded ? 2 ** Math.ceil(Math.log2(data)) : data);
}
