/** Commands that stay: when the broker ends under them, killed or replaced, they find or start the next one and offer, or
 *  ask for, the same again. Channels and descriptors that were handed over never notice. */
import { isHandedDown } from "../client/connect.ts";
import { BrokerGone } from "../client/failure.ts";
import { printError } from "./output.ts";

/** @param make  connects @param act  runs until it is done; throws BrokerGone when the broker has ended */
export function outliving<T extends Disposable, R>(make: () => T, act: (connected: T) => R): R {
  for (;;) {
    try {
      using connected = make();
      return act(connected);
    } catch (error) {
      if (!(error instanceof BrokerGone) || isHandedDown()) throw error;
      sayGoingOn();
    }
  }
}

export function sayGoingOn(): void {
  printError("shmlink: the broker has ended; going on with the next one\n");
}
