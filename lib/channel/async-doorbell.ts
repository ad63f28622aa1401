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

type Adopted = { ref(): void; unref(): void; pause(): void; resume(): void; close(): void };
type Events = { ring(): void; hangUp(): void };

type BunSocket = { ref(): void; unref(): void; pause(): void; resume(): void; terminate(): void };
type BunConnect = (options: { fd: number; socket: Record<string, () => void> }) => Promise<BunSocket>;

export type AsyncDoorbellOptions = {
  /** Called once, after who waits, when the other end hung up, from the first wait() on. */
  readonly onHangUp?: () => void;
  /** Called when bytes arrived. @returns for how long to take no more: 0 as long as the other end is honest */
  readonly restMs?: () => number;
};

const SINK_BYTES = 4096; // more than fit into a socket as single bytes

export class AsyncDoorbell implements Disposable {
  readonly #fd: BorrowedFd;
  readonly #options: AsyncDoorbellOptions;
  #adopted: Adopted | undefined;
  #rest: NodeJS.Timeout | undefined;
  #waiters: (() => void)[] = [];
  #hungUp = false;
  #closed = false;

  /** Nothing happens to `fd` before the first wait(); it stays the caller's. */
  constructor(fd: BorrowedFd, options: AsyncDoorbellOptions = {}) {
    this.#fd = fd;
    this.#options = options;
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
    if (this.#waiters.length === 0) this.#ref();
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
    this.#unref();
    for (const resolve of waiters) resolve();
  }

  /** Safe to call twice. The lent descriptor stays open. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.notify();
    timers().clearTimeout(this.#rest);
    this.#adopted?.close();
    this.#adopted = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #giveUp(waiter: () => void): void {
    this.#waiters = this.#waiters.filter((each) => each !== waiter);
    if (this.#waiters.length === 0) this.#unref();
    waiter();
  }

  #ref(): void {
    this.#adopted?.ref();
    this.#rest?.ref(); // what takes nothing keeps no loop alive
  }

  #unref(): void {
    this.#adopted?.unref();
    this.#rest?.unref();
  }

  #rang(): void {
    const restMs = this.#options.restMs?.() ?? 0;
    if (restMs > 0 && this.#rest === undefined) this.#takeRest(restMs);
    this.notify();
  }

  #takeRest(restMs: number): void {
    this.#adopted?.pause();
    this.#rest = timers().setTimeout(() => {
      this.#rest = undefined;
      this.#adopted?.resume();
    }, restMs);
    if (this.#waiters.length === 0) this.#rest.unref(); // nobody waits: a flood keeps no process from its end
  }

  #adopt(): Adopted {
    const own = duplicateFd(this.#fd);
    setNonBlocking(own, true);
    const events: Events = {
      ring: () => this.#rang(),
      hangUp: () => {
        if (this.#hungUp || this.#closed) return; // told by several events, and by our own end
        this.#hungUp = true;
        this.notify();
        this.#options.onHangUp?.();
      },
    };
    const { Bun } = globalThis as unknown as { Bun?: { connect: BunConnect } };
    return Bun === undefined ? adoptByNet(own.take(), events) : adoptByBun(Bun.connect, own.take(), events);
  }
}

/** Deno's own timers are numbers, which cannot be taken from a loop that should end. */
function timers(): typeof import("node:timers") {
  return process.getBuiltinModule("node:timers");
}

/** node:net is loaded when somebody awaits, not when a command starts: it costs more than all of shmlink. */
function adoptByNet(fd: number, { ring, hangUp }: Events): Adopted {
  const { Socket } = process.getBuiltinModule("node:net");
  // Into one buffer, because a stream would go on reading while it is paused.
  const callback = (): boolean => {
    ring();
    return true;
  };
  const onread = { buffer: new Uint8Array(SINK_BYTES), callback };
  const options = { fd, readable: true, writable: true, onread }; // of which @types/node 20 knows only for connect()
  const socket = new Socket(options);
  socket.on("end", hangUp);
  socket.on("close", hangUp);
  socket.on("error", hangUp); // ECONNRESET: the peer went with our bytes unread
  return {
    ref: () => socket.ref(),
    unref: () => socket.unref(),
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    close: () => socket.destroy(),
  };
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
  return {
    ref: () => ask("ref"),
    unref: () => ask("unref"),
    pause: () => socket?.pause(), // it has rung, so it is open
    resume: () => socket?.resume(),
    close: () => ask("terminate"),
  };
}
