import { expect } from "bun:test";
import { requires } from "../helpers/requires.ts";
import { BOOT_NEEDS, BOOT_TIMEOUT_MS, boot } from "./boot.ts";

type Record = { readonly id: number; readonly name: string };
type Listing = { readonly channels: Record[]; readonly contexts: Record[]; readonly relayed: Record[] };

function names(text: string | undefined): Listing {
  const { channels, contexts, relayed } = JSON.parse(text ?? "null") as Listing;
  const of = (records: Record[]): Record[] => records.map(({ id, name }) => ({ id, name }));
  return { channels: of(channels), contexts: of(contexts), relayed: of(relayed) };
}

function versionIn(text: string | undefined): string {
  return (JSON.parse(text ?? "null") as { readonly broker: { readonly version: string } }).broker.version;
}

requires.test(
  BOOT_NEEDS,
  "a broker that systemd starts again lists what there was, after SIGKILL, the watchdog and a restart, and ends when nothing is left",
  async () => {
    const values = await boot("survival-job.sh");
    const start = names(values.get("ls.start"));
    expect([start.channels, start.contexts, start.relayed].map((records) => records.map(({ name }) => name))).toEqual([
      ["talk"],
      ["test/app/1"],
      ["note"],
    ]);
    const pids = values.get("pids")?.split(" ") ?? [];
    expect(new Set(pids).size).toBe(4);
    for (const after of ["killed", "watchdog", "restarted"]) {
      expect([after, names(values.get(`ls.${after}`))]).toEqual([after, start]);
      expect([after, values.get(`said.${after}`)]).toEqual([after, after]);
      expect([after, values.get(`context.${after}`)]).toEqual([after, "0"]);
    }
    expect(values.get("restarts")).toBe("2");
    // Offered again by a command that does not know that it is still there: it goes to one taker all the same.
    expect([values.get("taken"), values.get("again"), values.get("offered")]).toEqual(["kept", "1", "0"]);
    expect(values.get("idle")).toBe("inactive success 0");
    expect(values.get("stopped")).toBe("success");
  },
  BOOT_TIMEOUT_MS,
);

requires.test(
  BOOT_NEEDS,
  "another version takes over everything that a broker holds: channels, one-way ones, contexts, offers, and services with their rings",
  async () => {
    const values = await boot("upgrade-job.sh");
    const [before, after] = ["before", "after"].map((when) => names(values.get(`ls.${when}`)));
    expect(before?.channels.map(({ name }) => name)).toEqual(["talk", "log"]);
    expect(before?.contexts.map(({ name }) => name)).toEqual(["test/app/1"]);
    expect(before?.relayed.map(({ name }) => name)).toEqual(["note"]);
    expect(after).toEqual(before as Listing);
    expect(versionIn(values.get("ls.before"))).not.toBe("99.0.0");
    expect(versionIn(values.get("ls.after"))).toBe("99.0.0");
    for (const file of ["heard", "logged"]) expect(values.get(`said.${file}.after`)).toBe("after");
    expect(new Set(values.get("pids")?.split(" ")).size).toBe(2);
    expect([values.get("spares"), values.get("context"), values.get("taken")]).toEqual(["2", "0", "kept"]);
    expect(values.get("stopped")).toBe("success");
  },
  BOOT_TIMEOUT_MS,
);
