/** Commands that stay: when the broker ends under them, killed or replaced, they find or start the next one and offer
 *  again what they offered. Channels and descriptors that were handed over never notice. */
import { FailureError } from "../errors.ts";
import { printError } from "./output.ts";

/** @param make  connects @param act  runs until it is done; throws FailureError "gone" when the broker has ended */
export function outliving<T extends Disposable>(make: () => T, act: (connected: T) => number): number {
  for (;;) {
    try {
      using connected = make();
      return act(connected);
    } catch (error) {
      if (!(error instanceof FailureError) || error.code !== "gone") throw error;
      printError("shmlink: the broker has ended; offering again to the next one\n");
    }
  }
}
