/**
 * Two mappings that end together. Where one lies right below the other, as mapShared() puts it if it can, they are one piece:
 * one ArrayBuffer, which takes as long to make and to detach for both as for one, and one munmap(2).
 */
import { abandon } from "./abandoned.ts";
import { calls } from "./calls.ts";
import { backend } from "./load.ts";
import type { Mapping } from "./mapping.ts";
import { givePlace } from "./pair-places.ts";

/** Where one of them is. */
export type MappedBytes = { readonly buffer: ArrayBuffer; readonly offset: number; readonly length: number };

/** The piece that both are. */
type Joint = { readonly buffer: ArrayBuffer; readonly address: number; readonly length: number };

export class MappedPair {
  readonly above: MappedBytes;
  readonly below: MappedBytes;
  readonly #each: readonly [Mapping, Mapping];
  #joint: Joint | undefined;

  /** Takes both. @param below  where it is not right below, or somebody has a view of one, they stay two pieces */
  constructor(above: Mapping, below: Mapping) {
    this.#each = [above, below];
    if (!below.joins(above)) {
      this.above = wholeOf(above);
      this.below = wholeOf(below);
      return;
    }
    const address = below.take();
    const offset = above.take() - address;
    const length = offset + above.length;
    const buffer = backend.view(address, length);
    this.#joint = { buffer, address, length };
    this.above = { buffer, offset, length: above.length };
    this.below = { buffer, offset: 0, length: below.length };
  }

  /** As Mapping's. Safe to call twice. @param isShown  views of either were handed to others */
  close(isShown: boolean): void {
    const joint = this.#joint;
    this.#joint = undefined;
    if (joint === undefined) for (const one of this.#each) one.close(isShown);
    else if (!isShown && backend.detach(joint.buffer)) {
      calls.munmap(joint.address, joint.length);
      if (joint.length === 2 * this.above.offset) givePlace(joint.address, this.above.offset);
    } else abandon(joint.buffer, joint.address, joint.length);
  }
}

function wholeOf({ buffer, length }: Mapping): MappedBytes {
  return { buffer, offset: 0, length };
}
