/** A short-lived folder for sockets and configuration, short enough for sun_path, removed with all that is in it. */
import { mkdtempSync, rmSync } from "node:fs";

export type RuntimeDir = Disposable & { readonly path: string };

/** Mode 0700, owned by us, as XDG_RUNTIME_DIR must be. */
export function makeRuntimeDir(): RuntimeDir {
  const path = mkdtempSync("/tmp/shm-");
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}
