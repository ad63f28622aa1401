/** ls and inspect: the record that programs rely on, and its text. */
import { describe, expect, test } from "bun:test";
import { waitUntil } from "../helpers/broker.ts";
import { RUNTIMES } from "../helpers/runtimes.ts";
import { Cli, errorLine } from "./fixture.ts";

type Json = Record<string, unknown>;

for (const runtime of RUNTIMES) {
  describe(runtime.name, () => {
    test("ls starts a broker and lists nothing, as one object and as text", async () => {
      await using cli = new Cli(runtime);
      const { code, text, stderr } = await cli.run(["ls", "--json"]);
      expect([code, stderr]).toEqual([0, ""]);
      const { broker, ...rest } = JSON.parse(text) as Json;
      expect(rest).toEqual({ services: [], channels: [], listeners: [], relayed: [], contexts: [], connections: [] });
      expect(broker).toMatchObject({
        id: 0,
        name: "broker",
        owner: { uid: process.getuid?.(), exe: expect.any(String) },
      });
      expect((await cli.run(["ls"])).text).toStartWith("Nothing is offered, connected or wrapped\n");
    }, 60_000);

    test("a service and its channel have all that was promised, in ls and in inspect", async () => {
      await using cli = new Cli(runtime);
      const listener = cli.start(["listen", "--keep", "talk", "--capacity=64K"], { stdin: "ignore" });
      const dialler = cli.start(["dial", "talk"]);
      dialler.child.stdin?.write("hello");
      await waitUntil(() => hasRead(cli), "five bytes to be read");

      const listing = JSON.parse((await cli.run(["ls", "--json"])).text) as Record<string, Json[]>;
      const owner = { uid: process.getuid?.(), pid: listener.child.pid, exe: expect.any(String) };
      expect(listing["services"]).toEqual([expect.objectContaining({ id: expect.any(Number), name: "talk", owner })]);
      const direction = {
        bytes: 5,
        messages: 1,
        fill: 0,
        wakeups: expect.any(Number),
        wakeupsSaved: expect.any(Number),
        dropped: 0,
        skipped: 0,
        hugePages: 0,
      };
      const [channel] = listing["channels"] ?? [];
      const id = channel?.["id"]; // before bun's toMatchObject puts its matcher in its place
      expect(channel).toMatchObject({ id: expect.any(Number), name: "talk", toService: direction });
      expect(channel).toMatchObject({ owner: { pid: dialler.child.pid }, capacity: expect.anything() });
      expect(channel).toHaveProperty("toDialler.fill", 0);

      const whole = JSON.parse((await cli.run(["inspect", "talk", "--json"])).text) as Json;
      expect(whole).toMatchObject({
        kind: "service",
        name: "talk",
        owner,
        channels: [{ name: "talk", toService: direction }],
      });
      const byId = JSON.parse((await cli.run(["inspect", String(id), "--json"])).text) as Json;
      expect(byId).toMatchObject({
        kind: "channel",
        id,
        seals: ["shrink", "grow", "future-write", "seal"],
      });

      const text = (await cli.run(["ls"])).text;
      expect(text).toMatch(/^Services\n.*ID +NAME.*\n.*talk/);
      expect(text).toMatch(/^Channels\n.*ID +NAME.*\n.*talk.*open/m);
      expect((await cli.run(["inspect", "talk"])).text).toMatch(/^kind +service\n/);
      const unknown = await cli.run(["inspect", "tlak"]);
      expect(errorLine(unknown)).toMatch(/Cannot inspect "tlak": .*did you mean "talk"\?/);
      expect(unknown.code).toBe(1);
    }, 60_000);
  });
}

function hasRead(cli: Cli): boolean {
  try {
    using link = cli.link();
    const channel = link.list().find(({ kind }) => kind === "channel");
    const direction = channel?.details["toService"] as { bytes: number; fill: number } | undefined;
    return direction?.bytes === 5 && direction.fill === 0;
  } catch {
    return false;
  }
}
