/**
 * Many short connections leave a supervisor as it was: its descriptors, its threads and its memory. Both ends are under
 * wrap, and both set an option of TCP, which a supervisor has to remember for as long as the connection lives.
 *   SHMLINK_TEST_CONNECTIONS=100000   so many instead of 3,000
 */
import { expect } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { compileFixture, type Running, Stage, until } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const cc = requires.program("cc", "gcc");
const COUNT = Number(process.env["SHMLINK_TEST_CONNECTIONS"] ?? 3000);
const WARM_UP = 2000;
/** What a collector may not have given back yet. Eight bytes kept for each of 100,000 connections are in it. */
const SLACK_KIB = 32 * 1024;

type Footprint = { readonly fds: number; readonly threads: number; readonly memoryKiB: number };

function footprint({ pid }: Running): Footprint {
  const status = readFileSync(`/proc/${pid}/status`, "latin1");
  const number = (name: string): number => Number(new RegExp(`^${name}:\\s*(\\d+)`, "m").exec(status)?.[1]);
  return { fds: readdirSync(`/proc/${pid}/fd`).length, threads: number("Threads"), memoryKiB: number("VmRSS") };
}

requires.test(
  [cc],
  `${COUNT} short connections leave the supervisors of both ends as they were`,
  async () => {
    await using stage = new Stage();
    const program = compileFixture("many-connections");
    const server = stage.wrap([program, "serve"]);
    const port = await server.match(/port (\d+)/);
    await stage.listener(Number(port));
    const client = stage.wrap([program, "dial", port, String(WARM_UP), String(COUNT)]);
    const pid = Number(await client.match(/warm (\d+)/));
    const before = [footprint(server), footprint(client)];
    process.kill(pid, "SIGUSR1");
    await until("the last connection", () => client.output.includes("done"), 240_000);
    const after = [footprint(server), footprint(client)];
    expect(after.map(({ fds }) => fds)).toEqual(before.map(({ fds }) => fds));
    for (const [index, { threads, memoryKiB }] of after.entries()) {
      expect(threads).toBeLessThanOrEqual(before[index]?.threads ?? 0);
      expect(memoryKiB).toBeLessThan((before[index]?.memoryKiB ?? 0) + SLACK_KIB);
    }
  },
  260_000,
);
