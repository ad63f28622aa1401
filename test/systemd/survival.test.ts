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
