/** Exit codes of shmlink's own ends. `wrap` passes on its program's instead (126, 127, 128 + signal among them). */
export const OK = 0;
export const FAILED = 1;
/** The command line itself is wrong: nothing was tried. */
export const WRONG_USAGE = 2;
/** As a shell reports a program that a signal ended. */
export const SIGNAL_BASE = 128;
/** The reader of our output went away, which would have ended a C program by SIGPIPE. */
export const OUTPUT_CLOSED: number = SIGNAL_BASE + 13;
