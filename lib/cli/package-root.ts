/** Where the package lies: the checkout, or what npm installed. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { modulePath } from "../util/module-path.ts";

/** The folder with bin and systemd in it; the built files lie one level deeper than the sources. */
export function packageRoot(): string {
  const above = join(modulePath(import.meta.url), "..", "..", "..");
  return existsSync(join(above, "systemd")) ? above : join(above, "..");
}

/** The launcher, by which one shmlink starts another. */
export function launcherPath(): string {
  return join(packageRoot(), "bin", "shmlink");
}
