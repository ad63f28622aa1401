/** The seals that make a shared ring safe to map: its shape never changes and nobody new can write to it. */
import { type BorrowedFd, constants, getSeals, SyscallError } from "../../ffi/mod.ts";
import { ProtocolError } from "../errors.ts";

const { F_SEAL_FUTURE_WRITE, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK } = constants;

export const RING_SEALS: number = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;

const NAMES: readonly (readonly [bit: number, name: string, why: string])[] = [
  [F_SEAL_SHRINK, "F_SEAL_SHRINK", "its pages could vanish under a reader"],
  [F_SEAL_GROW, "F_SEAL_GROW", "its size could change"],
  [F_SEAL_FUTURE_WRITE, "F_SEAL_FUTURE_WRITE", "others than its producer could write to it"],
  [F_SEAL_SEAL, "F_SEAL_SEAL", "somebody could add seals that stop its producer"],
];

/** @throws ProtocolError naming the first seal that is missing, or for a descriptor that cannot carry any */
export function checkRingSeals(fd: BorrowedFd): void {
  const seals = sealsOf(fd);
  if ((seals & RING_SEALS) === RING_SEALS) return;
  for (const [bit, name, why] of NAMES) {
    if ((seals & bit) === 0)
      throw new ProtocolError(`Cannot share the ring: ${name} is missing, ${why}; who maps it seals it`);
  }
}

function sealsOf(fd: BorrowedFd): number {
  try {
    return getSeals(fd);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    throw new ProtocolError("Cannot share the ring: the descriptor is no memfd, it carries no seals");
  }
}
