/** Machine code that cannot be written as a system call thunk; the sources are `x64.s` and `arm64.s`. */
export type MachineCode = {
  /** Byte offsets of the entry points inside the code; `signalFd` is a 32-bit slot to patch before it is made executable. */
  readonly offsets: {
    readonly onSignal: number;
    readonly signalFd: number;
    readonly restore: number;
    readonly spawnTable: number;
    readonly end: number;
  };
  readonly hex: string;
};
