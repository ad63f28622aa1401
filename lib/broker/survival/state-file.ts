/**
 * What the descriptors in the manager's store stand for: a memfd that lies in the store with them. Each line is one change,
 * appended by one write(2) into memory that outlives us; a line that was cut off by our death is no line. Now and then
 * the file is written anew with what still counts.
 */
import { memfdCreate, type OwnedFd, readAt, write } from "../../../ffi/mod.ts";
import type { Logger } from "../../log.ts";

/** A value of JSON for each key, in the order in which the keys came. */
export type State = ReadonlyMap<string, unknown>;

const VERSION = 1;
/** Lines that do not count any more are tolerated up to this much. */
const MAX_WASTE_BYTES = 1 << 18;
const CHUNK_BYTES = 1 << 16;

const encoder = new TextEncoder();

export class StateFile implements Disposable {
  readonly fd: OwnedFd;
  readonly #lines: Map<string, string> = new Map();
  #liveBytes = 0;
  #bytes = 0;

  /** A new file with these in it. */
  constructor(lines: ReadonlyMap<string, string> = new Map()) {
    this.fd = memfdCreate("shmlink:state");
    this.#append(JSON.stringify({ version: VERSION }));
    for (const [key, line] of lines) this.#set(key, line);
  }

  get lines(): ReadonlyMap<string, string> {
    return this.#lines;
  }

  /** Whether it is time to write a new file. */
  get isWasteful(): boolean {
    return this.#bytes > MAX_WASTE_BYTES + 2 * this.#liveBytes;
  }

  /** @param value  for JSON */
  set(key: string, value: unknown): void {
    this.#set(key, JSON.stringify([key, value]));
  }

  #set(key: string, line: string): void {
    this.#append(line);
    this.#lines.set(key, line);
    this.#liveBytes += line.length;
  }

  delete(key: string): void {
    const line = this.#lines.get(key);
    if (line === undefined) return;
    this.#append(JSON.stringify([key]));
    this.#lines.delete(key);
    this.#liveBytes -= line.length;
  }

  #append(line: string): void {
    const bytes = encoder.encode(`${line}\n`);
    for (let done = 0; done < bytes.length; ) done += write(this.fd, bytes.subarray(done)) ?? 0;
    this.#bytes += bytes.length;
  }

  [Symbol.dispose](): void {
    this.fd.close();
  }
}

/** What was in a file when its writer ended. @throws Error for a file that is none of ours, or of another version */
export function readState(fd: OwnedFd): State {
  const lines = readText(fd).split("\n").slice(0, -1); // what comes after the last newline was cut off
  const [first = "null", ...changes] = lines;
  const header = JSON.parse(first) as { readonly version?: unknown } | null;
  if (header?.version !== VERSION) throw new Error(`it is of version "${String(header?.version)}", not ${VERSION}`);
  const state = new Map<string, unknown>();
  for (const line of changes) {
    const change = JSON.parse(line) as unknown;
    if (!Array.isArray(change) || typeof change[0] !== "string") throw new Error("a line is no change");
    if (change.length === 1) state.delete(change[0]);
    else state.set(change[0], change[1]);
  }
  return state;
}

/** What an earlier broker left; nothing when it cannot be read, which is no reason not to serve. */
export function readLeft(fd: OwnedFd, logger: Logger): State {
  try {
    return readState(fd);
  } catch (error) {
    logger.error(`Cannot read what an earlier broker left: ${String(error)}; it is not listed`);
    return new Map();
  }
}

/** The names of descriptors that a value goes with. */
export function namesIn(value: unknown): string[] {
  const { names } = (value ?? {}) as { readonly names?: unknown };
  return Array.isArray(names) ? names.filter((name) => typeof name === "string") : [];
}

function readText(fd: OwnedFd): string {
  const decoder = new TextDecoder();
  const chunk = new Uint8Array(CHUNK_BYTES);
  let text = "";
  for (let at = 0; ; ) {
    const count = readAt(fd, chunk, at);
    if (count === 0) return text + decoder.decode();
    text += decoder.decode(chunk.subarray(0, count), { stream: true });
    at += count;
  }
}
