import { expect } from "bun:test";
import { requires } from "../helpers/requires.ts";
import { BOOT_NEEDS, BOOT_TIMEOUT_MS, boot } from "./boot.ts";

requires.test(
  [...BOOT_NEEDS, requires.program("python3", "python3"), requires.program("pgrep", "procps")],
  "a wrapped server tells systemd that it is ready, which hears it with NotifyAccess=all alone, and gets sockets with its own pid",
  async () => {
    const values = await boot("notify-job.sh");
    expect(values.get("all")).toBe("0 active success");
    const [main, child] = [values.get("all.main"), values.get("all.children")];
    expect(child).toMatch(/^\d+$/);
    expect(child).not.toBe(main);
    expect(values.get("all.status")).toBe(`pid ${child} has 0 of none`);
    expect([values.get("all.says"), values.get("all.way")]).toEqual(["hello", "1"]);
    expect(values.get("all.stopped")).toBe("success");
    expect(values.get("main")).toBe("1 failed timeout");
    expect(values.get("given")).toBe("0 active");
    expect(values.get("given.status")).toMatch(/^pid \d+ has 1 of its own$/);
    expect(values.get("given.stopped")).toBe("exit-code 143"); // without SuccessExitStatus=143
  },
  BOOT_TIMEOUT_MS,
);
