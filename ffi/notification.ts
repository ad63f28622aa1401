/** Where trapped calls are received: one place for all, by whoever receives. */
import { allocateForever, type NativeMemory } from "./memory.ts";
import { SECCOMP_NOTIF } from "./structs/seccomp.ts";

export const NOTIF: NativeMemory = allocateForever(SECCOMP_NOTIF.size);

/** A trapped call. `pid` is the *thread*, in our pid namespace. Arguments are signed and exact to 2^53. */
export type Notification = {
  readonly id: bigint;
  readonly pid: number;
  readonly nr: number;
  readonly arch: number;
  readonly args: readonly [number, number, number, number, number, number];
};

/** Signed, so that -1 stays -1; without a BigInt, which would be garbage for each of six. */
function arg(index: number): number {
  const at = SECCOMP_NOTIF.offsets.args + index * 8;
  return NOTIF.data.getInt32(at + 4, true) * 2 ** 32 + NOTIF.data.getUint32(at, true);
}

/** The call that was received last. */
export function readNotification(): Notification {
  return {
    id: NOTIF.data.getBigUint64(0, true),
    pid: NOTIF.data.getUint32(SECCOMP_NOTIF.offsets.pid, true),
    nr: NOTIF.data.getInt32(SECCOMP_NOTIF.offsets.nr, true),
    arch: NOTIF.data.getUint32(SECCOMP_NOTIF.offsets.arch, true),
    args: [arg(0), arg(1), arg(2), arg(3), arg(4), arg(5)],
  };
}
