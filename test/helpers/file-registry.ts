/** A registry of wrapped listeners in a folder of JSON files: what a broker does, for tests of wrap without one. */
import { appendFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FailureError } from "../../lib/errors.ts";
import type { ListenerRequest, Registration, Registry, Resolution } from "../../lib/wrap/registry.ts";

export type FileEntry = Omit<ListenerRequest, "counters"> & { readonly id: number };

export class FileRegistry implements Registry {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
    mkdirSync(folder, { recursive: true });
  }

  register({ counters, ...request }: ListenerRequest): Registration {
    const file = join(this.#folder, `${request.address}_${request.port}.json`);
    const entry: FileEntry = { ...request, id: counters.number };
    try {
      writeFileSync(file, JSON.stringify(entry), { flag: "wx" });
    } catch {
      throw new FailureError("name-in-use", `Cannot register "tcp:${request.address}:${request.port}": name in use`);
    }
    return { id: entry.id, close: () => rmSync(file, { force: true }) };
  }

  entries(): FileEntry[] {
    const files = this.#names().filter((name) => name.endsWith(".json"));
    return files.flatMap((name) => {
      try {
        return [JSON.parse(readFileSync(join(this.#folder, name), "utf8")) as FileEntry];
      } catch {
        return []; // being written, or withdrawn
      }
    });
  }

  /** None where there is no descriptor to look with: a broker is asked without one. */
  #names(): string[] {
    try {
      return readdirSync(this.#folder);
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "EMFILE") return [];
      throw error;
    }
  }

  resolve(address: string, port: number): Resolution | undefined {
    const isV6 = address.includes(":");
    const accepts = (entry: FileEntry): boolean =>
      entry.address === address ||
      (entry.address === "0.0.0.0" && !isV6) ||
      (entry.address === "::" && (isV6 || !entry.v6only));
    const found = this.entries().find((entry) => entry.port === port && accepts(entry));
    return found === undefined ? undefined : { path: found.path, id: found.id };
  }

  /** As the broker does for a peer that is gone. */
  withdraw(port: number): void {
    for (const entry of this.entries()) {
      if (entry.port === port) rmSync(join(this.#folder, `${entry.address}_${port}.json`), { force: true });
    }
  }

  reportFallback(address: string, port: number, reason: string): void {
    appendFileSync(join(this.#folder, "fallbacks.log"), `${address} ${port} ${reason}\n`);
  }

  fallbacks(): string[] {
    try {
      return readFileSync(join(this.#folder, "fallbacks.log"), "utf8").trim().split("\n");
    } catch {
      return [];
    }
  }
}
