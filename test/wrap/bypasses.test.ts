/** Ways around the trapped calls: none is let through unnoticed, and each says what it came to. */
import { expect } from "bun:test";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { compileFixture, Stage } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const cc = requires.program("cc", "gcc");
const x64 = requires.feature(process.arch === "x64", "this machine has no i386 calls");

async function tryCalls(what: string, flags: readonly string[] = []): Promise<string> {
  await using stage = new Stage();
  const running = stage.wrap([compileFixture("try-calls"), what], { flags: ["--log", ...flags] });
  expect(await running.exit).toBe(0);
  return running.output;
}

requires.test([cc], "io_uring is missing, as on a kernel without, unless it was allowed", async () => {
  await using stage = new Stage();
  const native = stage.plain([compileFixture("try-calls"), "io_uring"]);
  await native.exit;
  expect(await tryCalls("io_uring")).toBe("io_uring_setup: ENOSYS\n");
  expect(await tryCalls("io_uring", ["--io-uring"])).toBe(native.output);
});

for (const way of ["socketcall", "direct"]) {
  requires.test(
    [cc, x64],
    `socket calls of the i386 machine (${way}) fail, with a warning, and others work`,
    async () => {
      await using stage = new Stage();
      const native = stage.plain([compileFixture("try-calls"), way]);
      await native.exit;
      if (!native.output.includes("getpid: done")) return; // this kernel runs no i386 programs at all
      expect(native.output).toBe("getpid: done\nbind: done\nlisten: done\n");
      const output = await tryCalls(way);
      expect(output).toContain("getpid: done\nbind: ENOSYS\nlisten: ENOSYS\n");
      expect(output).toMatch(/wrap warn: Refused a socket call of a 32-bit program \(thread \d+\)/);
    },
  );
}

requires.test([cc, x64], "calls of the x32 machine fail, as on a kernel without it, and do nothing", async () => {
  await using stage = new Stage();
  const native = stage.plain([compileFixture("try-calls"), "x32"]);
  expect(await native.exit).toBe(0);
  // Most kernels have none of it; where there is, the same calls work without wrap.
  const [works, not] = [
    "getpid: done\nbind: done\nlisten: done\nbound: 1\n",
    "getpid: ENOSYS\nbind: ENOSYS\nlisten: ENOSYS\nbound: 0\n",
  ];
  expect([works, not]).toContain(native.output);
  expect(await tryCalls("x32")).toBe(not);
});
