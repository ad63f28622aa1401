/** Picks the backend for this runtime; remembers which and, where there was a choice, why not the other. */
import type { Backend, BackendName } from "./backend.ts";
import { type BunFfi, createBunBackend } from "./backends/bun.ts";
import type { DenoFfi } from "./backends/deno.ts";
import type { Koffi } from "./backends/koffi.ts";

export type Loaded = { readonly backend: Backend; readonly refused: readonly { name: BackendName; reason: string }[] };

type Candidate = { readonly name: BackendName; readonly create: () => Promise<Backend> };

async function createBun(): Promise<Backend> {
  const name = "bun:ffi"; // not a literal in import(), so that Deno's and Node's checkers do not look for it
  return createBunBackend((await import(name)) as BunFfi);
}

async function createDeno(): Promise<Backend> {
  const { createDenoBackend } = await import("./backends/deno.ts");
  return createDenoBackend((globalThis as unknown as { Deno: DenoFfi }).Deno);
}

async function createKoffi(): Promise<Backend> {
  const [{ createKoffiBackend, createV8Detach }, koffi] = await Promise.all([
    import("./backends/koffi.ts"),
    import("koffi"),
  ]);
  const module = koffi.default as unknown as Koffi;
  if (process.versions["bun"] !== undefined || "Deno" in globalThis) return createKoffiBackend(module);
  const v8 = await import("node:v8");
  return createKoffiBackend(module, createV8Detach(v8.setFlagsFromString));
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

async function load(): Promise<Loaded> {
  const refused: { name: BackendName; reason: string }[] = [];
  for (const { name, create } of candidates()) {
    try {
      return { backend: await create(), refused };
    } catch (error) {
      refused.push({ name, reason: error instanceof Error ? error.message : String(error) });
    }
  }
  const reasons = refused.map(({ name, reason }) => `${name}: ${reason}`).join("; ");
  throw new Error(`Cannot call the kernel from this runtime: ${reasons}`);
}

export const loaded: Loaded = await load();
export const backend: Backend = loaded.backend;
