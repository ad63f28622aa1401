/** Where machine code sends connections: listeners on 127.0.0.1 that connect() has found. */
import { TrapTargets } from "../../../ffi/mod.ts";
import type { Endpoint } from "../host.ts";
import type { DecisionCount } from "../journal.ts";
import { connectionNameParts } from "../names.ts";

/** Where connections go, and the path of the listener there. */
export type Destination = { readonly target: Endpoint; readonly where: string };

type Known = { readonly destination: Destination; readonly decision: DecisionCount | undefined };

export class KnownTargets {
  readonly #places: TrapTargets;
  readonly #known: Known[] = [];
  /** Which were connected to since they were looked at. */
  readonly #reached: Set<number> = new Set();
  #next = 0;

  constructor(places: TrapTargets) {
    this.#places = places;
  }

  /** @param decision  counts the connections */
  learn(destination: Destination, decision: DecisionCount | undefined): void {
    const { port } = destination.target;
    let index = this.#known.findIndex((known) => known.destination.target.port === port);
    if (index < 0) {
      index = this.#next;
      this.#next = (index + 1) % TrapTargets.MAX;
    }
    this.#known[index] = { destination, decision };
    this.#aim(index, destination);
  }

  #aim(index: number, { target, where }: Destination): void {
    const { head, tail } = connectionNameParts({ domain: 4, client: target.host, server: target });
    this.#places.set(index, { ...target, path: where, head, tail });
  }

  /** Connections to a place have been made. */
  count(index: number, times: number): void {
    this.#reached.add(index);
    const decision = this.#known[index]?.decision;
    if (decision !== undefined) decision.count += times;
  }

  /** Those that have been connected to since the last time that this was asked. */
  takeReached(): number[] {
    const reached = [...this.#reached];
    this.#reached.clear();
    return reached;
  }

  /** @param isThere  whether a destination is what it was */
  renew(index: number, isThere: (destination: Destination) => boolean): void {
    const known = this.#known[index];
    if (known !== undefined && isThere(known.destination)) this.#aim(index, known.destination);
  }

  forget(): void {
    for (let index = 0; index < TrapTargets.MAX; index++) this.#places.set(index, undefined);
  }
}
