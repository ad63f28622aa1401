import { expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { constants, recvmsg, setReceiveTimeout, socketpair } from "../../../ffi/mod.ts";

test("a signal ends a receive that sleeps, whose time would begin anew otherwise", async () => {
  const ignore = (): void => undefined;
  process.on("SIGUSR1", ignore);
  const [near, far] = socketpair(constants.SOCK_STREAM);
  setReceiveTimeout(near, 600_000);
  const script = `while kill -USR1 ${process.pid}; do sleep 0.1; done`;
  const child = spawn("sh", ["-c", script], { stdio: "ignore" });
  try {
    expect(recvmsg(near, true)).toBeNull();
  } finally {
    child.kill("SIGKILL");
    await new Promise((resolve) => child.on("exit", resolve));
    process.off("SIGUSR1", ignore);
    near.close();
    far.close();
  }
});
