import { expect } from "bun:test";
import { requires } from "../helpers/requires.ts";
import { BOOT_NEEDS, BOOT_TIMEOUT_MS, boot } from "./boot.ts";

type Listing = { readonly broker: { readonly owner: { readonly uid: number; readonly pid: number } } };

function owner(values: Map<string, string>, name: string): Listing["broker"]["owner"] {
  return (JSON.parse(values.get(name) ?? "null") as Listing).broker.owner;
}

requires.test(
  BOOT_NEEDS,
  `shmlink ls starts the broker through the user's socket unit, which ends when idle and starts again`,
  async () => {
    const values = await boot("user-socket-job.sh");
    expect([values.get("socket"), values.get("before")]).toEqual(["active", "inactive"]);
    expect([values.get("ls1"), values.get("ls2")]).toEqual(["0", "0"]);
    expect(owner(values, "listing1")).toMatchObject({ uid: 4242, pid: Number(values.get("main1")) });
    // CapInh, CapPrm, CapEff, CapAmb and NoNewPrivs: what units.test.ts tells systemd-analyze
    const none = "0000000000000000";
    expect(values.get("privileges1")).toBe(`${none} ${none} ${none} ${none} 1`);
    expect(values.get("idle")).toBe("inactive success 0");
    expect(owner(values, "listing2")).toMatchObject({ uid: 4242, pid: Number(values.get("main2")) });
    expect(values.get("main1")).not.toBe(values.get("main2"));
    expect(values.get("mode")).toBe("700 600");
    expect(values.get("stopped")).toBe("success 0");
    expect(values.get("left")).toBe("");
  },
  BOOT_TIMEOUT_MS,
);

requires.test(
  BOOT_NEEDS,
  `the system's broker runs without any privilege, serves root, and refuses another user by the rule's name`,
  async () => {
    const values = await boot("system-socket-job.sh");
    expect(values.get("root")).toBe("0");
    expect(owner(values, "listing").pid).toBe(Number(values.get("main")));
    expect(Number(values.get("uid"))).toBeGreaterThanOrEqual(61184); // DynamicUser=
    expect(values.get("capabilities")).toBe("0000000000000000");
    expect(Number(values.get("carried"))).toBeGreaterThan(0);
    expect(values.get("taken")).toBe("kept");
    expect(values.get("other")).toBe("1");
    expect(values.get("refusal")).toContain('no rule allows user 4242 to connect (rule "default")');
    expect(values.get("mode")).toBe("755 666");
    expect(values.get("stopped")).toBe("success");
  },
  BOOT_TIMEOUT_MS,
);
