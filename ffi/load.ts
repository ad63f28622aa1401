/** Picks the backend for this runtime; remembers which and, where there was a choice, why not the other. */
import { createRequire } from "node:module";
import type { Backend, BackendName } from "./backend.ts";
import { type BunFfi, createBunBackend } from "./backends/bun.ts";
import { createDenoBackend, type DenoFfi } from "./backends/deno.ts";
import { createKoffiBackend, createV8Detach, type Koffi } from "./backends/koffi.ts";

export type Loaded = { readonly backend: Backend; readonly refused: readonly { name: BackendName; reason: string }[] };

type Candidate = { readonly name: BackendName; readonly create: () => Backend };

// Not import(): a module that awaits at its top cannot be kept as bytecode (the bundle is, and starts sooner for it).
function createBun(): Backend {
  return createBunBackend(process.getBuiltinModule("bun:ffi") as unknown as BunFfi);
}

function createDeno(): Backend {
  return createDenoBackend((globalThis as unknown as { Deno: DenoFfi }).Deno);
}

function createKoffi(): Backend {
  const require = createRequire(import.meta.url);
  const koffi = require("koffi") as Koffi;
  if (process.versions["bun"] !== undefined || "Deno" in globalThis) return createKoffiBackend(koffi);
  const v8 = require("node:v8") as typeof import("node:v8");
  return createKoffiBackend(koffi, createV8Detach(v8.setFlagsFromString));
}

const CANDIDATES: Record<BackendName, Candidate> = {
  bun: { name: "bun", create: createBun },
  deno: { name: "deno", create: createDeno },
  koffi: { name: "koffi", create: createKoffi },
};

/** The runtime's own FFI first, koffi after it; `SHMLINK_FFI=koffi` asks for the fallback alone. */
function candidates(): readonly Candidate[] {
  const { bun, deno, koffi } = CANDIDATES;
  if (process.env["SHMLINK_FFI"] === "koffi") return [koffi];
  if (process.versions["bun"] !== undefined) return [bun, koffi];
  if ("Deno" in globalThis) return [deno, koffi];
  return [koffi];
}

function load(): Loaded {
  const refused: { name: BackendName; reason: string }[] = [];
  for (const { name, create } of candidates()) {
    try {
      return { backend: create(), refused };
    } catch (error) {
      refused.push({ name, reason: error instanceof Error ? error.message : String(error) });
    }
  }
  const reasons = refused.map(({ name, reason }) => `${name}: ${reason}`).join("; ");
  throw new Error(`Cannot call the kernel from this runtime: ${reasons}`);
}

export const loaded: Loaded = load();
export const backend: Backend = loaded.backend;
