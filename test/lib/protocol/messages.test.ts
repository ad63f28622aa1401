/** Typed messages against bytes that libwayland wrote: test/golden/wire.json, recorded by fixtures/libwayland/record.c. */
import { expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { opcodeOf, type TypedMessage, toArgs, toTyped } from "../../../lib/protocol/messages.ts";
import { INTERFACES, type InterfaceName } from "../../../lib/protocol/shmlink-v1.gen.ts";
import type { ObjectId } from "../../../lib/util/brand.ts";
import { WireReader } from "../../../lib/wire/decode.ts";
import { encode } from "../../../lib/wire/encode.ts";
import { buildLibwaylandProgram, LIBWAYLAND } from "../../fixtures/libwayland/build.ts";
import { requires } from "../../helpers/requires.ts";

type Recorded = {
  readonly direction: "requests" | "events";
  readonly object: ObjectId;
  readonly interface: InterfaceName;
  readonly message: TypedMessage;
  readonly fds: number;
  readonly bytes: string;
};

const RECORDED: readonly Recorded[] = JSON.parse(
  readFileSync(join(import.meta.dirname, "../../golden/wire.json"), "utf8"),
);
const cases = RECORDED.map((recorded) => [`${recorded.interface}.${recorded.message.kind}`, recorded] as const);

/** What stands for descriptors in the file. */
const names = (count: number): string[] => Array.from({ length: count }, (_, index) => `fd ${index}`);

test.each(cases)("%s is written as libwayland writes it", (_name, recorded) => {
  const messages = INTERFACES[recorded.interface][recorded.direction];
  const opcode = opcodeOf(messages, recorded.message.kind);
  const description = messages[opcode];
  if (description === undefined) throw new Error("No such message");
  const args = toArgs<string>(description, recorded.message);
  const { bytes, fds } = encode({ kind: "message", object: recorded.object, opcode, args });
  expect(Buffer.from(bytes).toString("hex")).toBe(recorded.bytes);
  expect(fds).toEqual(names(recorded.fds));
});

test.each(cases)("%s is read as libwayland wrote it", (_name, recorded) => {
  const messages = INTERFACES[recorded.interface][recorded.direction];
  const reader = new WireReader<string>();
  reader.push(Buffer.from(recorded.bytes, "hex"), names(recorded.fds));
  const raw = reader.next((_object, opcode) => messages[opcode]?.args ?? "unknown-opcode");
  if (raw?.kind !== "message") throw new Error(raw?.detail ?? "The message is not whole");
  const description = messages[raw.opcode];
  if (description === undefined) throw new Error("No such message");
  expect(raw.object).toBe(recorded.object);
  expect(toTyped(description, raw.args)).toEqual(recorded.message);
});

requires.test(LIBWAYLAND, "this machine's libwayland writes what was recorded", () => {
  const directory = mkdtempSync("/tmp/shmlink-record-");
  try {
    const lines = execFileSync(buildLibwaylandProgram("record", directory)).toString().trimEnd().split("\n");
    expect(lines).toEqual(RECORDED.map(({ fds, bytes }) => `${fds} ${bytes}`));
  } finally {
    rmSync(directory, { recursive: true });
  }
});
