/** The unit files as `shmlink install` would put them: the marker replaced, in a folder of their own. */
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const SYSTEMD = join(import.meta.dir, "../../systemd");
export const KINDS = ["user", "system"] as const;
export type Kind = (typeof KINDS)[number];

export function unitText(kind: Kind, unit: "shmlink.socket" | "shmlink.service"): string {
  return readFileSync(join(SYSTEMD, kind, unit), "utf8");
}

/** @returns a folder that the caller removes */
export function installedUnits(kind: Kind, executable: string): string {
  const directory = mkdtempSync(join(tmpdir(), `shmlink-units-${kind}-`));
  for (const unit of ["shmlink.socket", "shmlink.service"] as const) {
    writeFileSync(join(directory, unit), unitText(kind, unit).replaceAll("@SHMLINK@", executable));
  }
  return directory;
}

/** The values of `key` in a unit, in order. */
export function unitValues(text: string, key: string): string[] {
  return [...text.matchAll(new RegExp(`^${key}=(.*)$`, "gm"))].map(([, value]) => value ?? "");
}
