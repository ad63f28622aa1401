/**
 * `await` on one end of a socket pair without a thread and without polling: a duplicate of it is adopted by the
 * runtime's own event loop. The loop owns the duplicate, reads whatever arrives and throws it away, because the news is
 * that something arrived.
 *
 * The race: a byte that the loop read before wait() was called wakes nobody. So look for work, then call wait(), in
 * one turn of the loop; and whoever takes bytes from the descriptor elsewhere calls notify().
 *
 * Bun adopts by Bun.connect({fd}) (its net.Socket({fd}) delivers nothing), Deno and Node by net.Socket({fd}).
 */
import { type BorrowedFd, duplicateFd, setNonBlocking } from "../../ffi/mod.ts";

type Adopted = { ref(): void; unref(): void; close(): void };
type Events = { ring(): void; hangUp(): void };

type BunSocket = { ref(): void; unref(): void; terminate(): void };
type BunConnect = (options: { fd: number; socket: Record<string, () => void> }) => Promise<BunSocket>;

export class AsyncDoorbell implements Disposable {
  readonly #fd: BorrowedFd;
  readonly #onHangUp: () => void;
  #adopted: Adopted | undefined;
  #waiters: (() => void)[] = [];
  #hungUp = false;
  #closed = false;

  /** Nothing happens to `fd` before the first wait(); it stays the caller's.
   *  @param onHangUp  called once, after who waits, when the other end hung up, from the first wait() on */
  constructor(fd: BorrowedFd, onHangUp: () => void = () => undefined) {
    this.#fd = fd;
    this.#onHangUp = onHangUp;
  }

  get hungUp(): boolean {
    return this.#hungUp;
  }

  /** Whether somebody is in wait(): then, and only then, the process is kept alive. */
  get waiting(): boolean {
    return this.#waiters.length > 0;
  }

  /** Resolves when a byte arrived, the other end hung up, `signal` was aborted, or on notify() or close(). May be for
   *  nothing: look again. */
  wait(signal?: AbortSignal): Promise<void> {
    if (this.#hungUp || this.#closed || signal?.aborted) return Promise.resolve();
    this.#adopted ??= this.#adopt();
    if (this.#waiters.length === 0) this.#adopted.ref();
    return new Promise((resolve) => {
      const waiter = (): void => {
        signal?.removeEventListener("abort", abort);
        resolve();
      };
      const abort = (): void => this.#giveUp(waiter);
      signal?.addEventListener("abort", abort);
      this.#waiters.push(waiter);
    });
  }

  /** Lets all who wait look again. */
  notify(): void {
    const waiters = this.#waiters;
    if (waiters.length === 0) return;
    this.#waiters = [];
    this.#adopted?.unref();
    for (const resolve of waiters) resolve();
  }

  /** Safe to call twice. The lent descriptor stays open. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.notify();
    this.#adopted?.close();
    this.#adopted = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #giveUp(waiter: () => void): void {
    this.#waiters = this.#waiters.filter((each) => each !== waiter);
    if (this.#waiters.length === 0) this.#adopted?.unref();
    waiter();
  }

  #adopt(): Adopted {
    const own = duplicateFd(this.#fd);
    setNonBlocking(own, true);
    const events: Events = {
      ring: () => this.notify(),
      hangUp: () => {
        if (this.#hungUp || this.#closed) return; // told by several events, and by our own end
        this.#hungUp = true;
        this.notify();
        this.#onHangUp();
      },
    };
    const { Bun } = globalThis as unknown as { Bun?: { connect: BunConnect } };
    return Bun === undefined ? adoptByNet(own.take(), events) : adoptByBun(Bun.connect, own.take(), events);
  }
}

/** node:net is loaded when somebody awaits, not when a command starts: it costs more than all of shmlink. */
function adoptByNet(fd: number, { ring, hangUp }: Events): Adopted {
  const { Socket } = process.getBuiltinModule("node:net");
  const socket = new Socket({ fd, readable: true, writable: true });
  socket.on("data", ring);
  socket.on("end", hangUp);
  socket.on("close", hangUp);
  socket.on("error", hangUp); // ECONNRESET: the peer went with our bytes unread
  return { ref: () => socket.ref(), unref: () => socket.unref(), close: () => socket.destroy() };
}

/** Bun answers with a promise; what is wanted of the socket meanwhile is remembered. */
function adoptByBun(connect: BunConnect, fd: number, { ring, hangUp }: Events): Adopted {
  let socket: BunSocket | undefined;
  let wanted: "ref" | "unref" | "terminate" = "ref";
  const ask = (what: typeof wanted): void => {
    wanted = what;
    socket?.[what]();
  };
  connect({ fd, socket: { data: ring, end: hangUp, close: hangUp, error: hangUp, connectError: hangUp } }).then(
    (opened) => {
      socket = opened;
      opened[wanted]();
    },
    hangUp,
  );
  return { ref: () => ask("ref"), unref: () => ask("unref"), close: () => ask("terminate") };
}
