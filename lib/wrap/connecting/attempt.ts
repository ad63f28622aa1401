/** The way of one connect() to a Unix listener: again for a while where its backlog is full, and over TCP in the end. */
import {
  connect,
  constants,
  errno,
  getStatusFlags,
  type OwnedFd,
  SyscallError,
  socket,
  unixAddress,
} from "../../../ffi/mod.ts";
import { type Answer, CONTINUE, DONE, LATER } from "../answer.ts";
import type { Call, Context } from "../context.ts";
import { formatHost } from "../host.ts";
import { CallGone } from "../tracee.ts";
import type { Connecting } from "./connecting.ts";
import { Fallback, fallBack, goOnByTcp } from "./fallback.ts";
import { type FirstData, readFirst } from "./first-data.ts";
import { note, type Plan, UNKNOWN } from "./plan.ts";
import { dressAndName, refuseUnfit, touchOf } from "./prepare.ts";
import { putInPlace } from "./put-in-place.ts";

const { AF_UNIX, O_NONBLOCK, SOCK_NONBLOCK, SOCK_STREAM } = constants;
const { EAGAIN } = errno;

// A full backlog is EAGAIN at once, where TCP would send its SYN again: for so long it is tried again.
const FIRST_RETRY_MS = 1;
const LONGEST_RETRY_MS = 50;
const PATIENCE_MS = 2000;
const PATIENCE_NON_BLOCKING_MS = 200;
const PATIENCE_WITH_AN_END_MS = 100;

/** Holds the program's socket and the new one until it is over. */
export class Attempt {
  readonly #connecting: Connecting;
  readonly #first: FirstData | undefined;
  #firstBytes: Uint8Array | undefined;
  #path: string;
  #delayMs: number = FIRST_RETRY_MS;
  #leftMs: number = PATIENCE_MS;

  /** @param tcp  the program's socket; taken */
  constructor(context: Context, call: Call, tcp: OwnedFd, plan: Plan, first: FirstData | undefined) {
    this.#first = first;
    this.#path = plan.path;
    this.#connecting = { context, call, plan, tcp, unix: socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK) };
  }

  begin(): Answer {
    return this.#guard(() => {
      this.#prepare();
      return this.#connect();
    });
  }

  /** Closes what it holds unless it goes on. An obstacle becomes the recorded reason for plain TCP. */
  #guard(step: () => Answer): Answer {
    let answer: Answer = CONTINUE;
    try {
      answer = step();
    } catch (error) {
      const isOurs = !this.#connecting.tcp.closed && this.#first === undefined;
      if (error instanceof CallGone && isOurs) goOnByTcp(this.#connecting);
      if (!(error instanceof Fallback || error instanceof SyscallError || error instanceof RangeError)) {
        this.#close();
        throw error;
      }
      answer = fallBack(this.#connecting, error);
    }
    if (answer.kind !== "later") this.#close();
    return answer;
  }

  #close(): void {
    this.#connecting.tcp.close();
    this.#connecting.unix.close();
  }

  #prepare(): void {
    const { call, tcp } = this.#connecting;
    const touch = touchOf(this.#connecting);
    refuseUnfit(this.#connecting, touch);
    if ((getStatusFlags(tcp) & O_NONBLOCK) !== 0) this.#leftMs = PATIENCE_NON_BLOCKING_MS;
    this.#firstBytes = this.#first && readFirst(call, this.#first);
    dressAndName(this.#connecting, touch);
  }

  #connect(): Answer {
    try {
      connect(this.#connecting.unix, unixAddress(this.#path), this.#path);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      if (error.errno === EAGAIN && this.#leftMs > 0) return this.#wait();
      return this.#askAgain(error);
    }
    putInPlace(this.#connecting, { path: this.#path, firstBytes: this.#firstBytes });
    return DONE;
  }

  /** The registry may know better by now than what we remembered of it. */
  #askAgain(error: SyscallError): Answer {
    const { context, call, plan } = this.#connecting;
    const { target, rule } = plan;
    const [host, port] = [formatHost(target.host), target.port];
    const isGone = error.errno === errno.ECONNREFUSED || error.errno === errno.ENOENT;
    const isOfRule = rule?.action.kind === "path" || rule?.action.kind === "abstract";
    if (!isGone || isOfRule) throw error;
    context.resolver.forget(host, port);
    const found = context.resolver.resolve(host, port);
    if (found === undefined && rule?.require !== true) {
      note(context, call, target, { outcome: "tcp", reason: UNKNOWN, rule });
      return CONTINUE;
    }
    if (found === undefined) throw error;
    if (found.path === this.#path) return this.#waitForEnd(error);
    this.#path = found.path;
    return this.#connect();
  }

  /** Nobody holds the listener, which its supervisor learns in a moment. TCP would find the port still open until then. */
  #waitForEnd(error: SyscallError): Answer {
    this.#leftMs = Math.min(this.#leftMs, PATIENCE_WITH_AN_END_MS);
    if (this.#leftMs <= 0) throw error;
    return this.#wait();
  }

  #wait(): Answer {
    const { context, call } = this.#connecting;
    context.reactor.setTimer(this.#delayMs, () => {
      const answer = this.#goOn();
      context.answer(call, answer);
    });
    this.#leftMs -= this.#delayMs;
    this.#delayMs = Math.min(this.#delayMs * 2, LONGEST_RETRY_MS);
    return LATER;
  }

  #goOn(): Answer {
    try {
      return this.#guard(() => (this.#connecting.call.tracee.isWaiting ? this.#connect() : CONTINUE));
    } catch (error) {
      if (error instanceof CallGone) return DONE;
      throw error;
    }
  }
}
