/** Listening sockets with an identity of their own: each is served until its close fd hangs up. */
import { constants, setNonBlocking } from "../../ffi/mod.ts";
import type { Reactor } from "../transport/reactor.ts";
import type { Admission } from "./admission.ts";
import type { BrokerCore } from "./core.ts";
import type { ContextRecord } from "./records.ts";

export class Contexts {
  readonly #core: BrokerCore;
  readonly #reactor: Reactor;
  readonly #admission: Admission;
  readonly #onEnd: () => void;

  /** @param onEnd  called when one has ended */
  constructor(
    core: BrokerCore,
    wiring: { readonly reactor: Reactor; readonly admission: Admission; readonly onEnd: () => void },
  ) {
    this.#core = core;
    this.#reactor = wiring.reactor;
    this.#admission = wiring.admission;
    this.#onEnd = wiring.onEnd;
  }

  /** Lets in who connects there, until its close fd hangs up. Takes the descriptors, unless it throws.
   *  @throws SyscallError EPERM when the close fd can never hang up */
  serve(record: ContextRecord): void {
    const { listener, closeFd } = record;
    const by = { uid: record.owner.uid, pid: record.owner.pid };
    // Before anything else: this fails for what can never hang up.
    const watching = this.#reactor.add(closeFd, constants.EPOLLHUP, (events) => {
      if ((events & (constants.EPOLLHUP | constants.EPOLLERR)) === 0) return;
      watching.remove();
      this.#remove(record);
    });
    const spoiled = (): void => {
      this.#core.logger.warn(`Context ${record.name}: O_NONBLOCK of its listening socket was cleared`, by);
      watching.remove();
      this.#remove(record);
    };
    setNonBlocking(listener, true);
    this.#core.ownSockets.addListener(listener);
    this.#admission.watch(listener, record, spoiled);
    this.#core.registry.contexts.set(record.id, record);
    this.#core.logger.info(`Context ${record.name} begins`, by);
  }

  /** Nobody comes in any more; who is in stays, as with a listening socket that is closed. */
  #remove(record: ContextRecord): void {
    const { id, name, listener, closeFd, owner } = record;
    this.#core.registry.contexts.delete(id);
    this.#core.survival.forgetContext(record);
    this.#admission.unwatch(listener);
    this.#core.ownSockets.removeListener(listener);
    for (const fd of [listener, closeFd]) fd.close();
    this.#core.quota.release(owner, { contexts: 1 });
    this.#core.logger.info(`Context ${name} ends`, { uid: owner.uid, pid: owner.pid });
    this.#onEnd();
  }
}
