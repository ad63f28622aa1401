/** The contract of ffi, run on Bun, Deno and Node, each with every backend it can have. Run as a program it prints a
 *  line of JSON for the backend and one for each case. */
import { loaded } from "../../ffi/mod.ts";
import { ERROR_CASES } from "./ffi-errors.ts";
import { FD_CASES } from "./ffi-fds.ts";
import { MEMORY_CASES } from "./ffi-memory.ts";
import { SECCOMP_CASES } from "./ffi-seccomp.ts";
import { SPAWN_CASES } from "./ffi-spawn.ts";
import { THREAD_CASES } from "./ffi-threads.ts";
import { WAITING_CASES } from "./ffi-waiting.ts";
import { type Case, runSuite } from "./suite.ts";

export const FFI_CASES: readonly Case[] = [
  ...ERROR_CASES,
  ...FD_CASES,
  ...MEMORY_CASES,
  ...WAITING_CASES,
  ...SECCOMP_CASES,
  ...THREAD_CASES,
  ...SPAWN_CASES, // last: it pins the thread to a CPU
];

if (process.argv[2] === "run") {
  console.log(JSON.stringify({ backend: loaded.backend.name }));
  await runSuite(FFI_CASES);
}
