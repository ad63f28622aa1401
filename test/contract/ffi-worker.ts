/** A worker thread of the errno case: binds its own calls and fails on purpose. */
import { parentPort } from "node:worker_threads";
import { interleaveFailures } from "./ffi-errors.ts";

interleaveFailures(100);
parentPort?.postMessage("done");
