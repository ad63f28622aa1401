/** Connections that machine code answers one after the other, without a return to JavaScript, are counted all the same. */
import { expect } from "bun:test";
import { requires } from "../helpers/requires.ts";
import { BUN } from "../helpers/runtimes.ts";
import { freePort, until } from "../helpers/wrapped.ts";
import { Cli } from "./fixture.ts";

const CONNECTIONS = 600; // more than are answered in one go

const SERVE = `
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=64)
for _ in range(${CONNECTIONS}): listener.accept()[0].close()
listener.accept()
`;
const DIAL = `
import socket, sys
for _ in range(${CONNECTIONS}):
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as s: assert s.recv(1) == b""
`;

type Inspected = { readonly connections: { readonly unix: number }; readonly traps: number; readonly trapUs: number };

async function inspect(cli: Cli, port: number): Promise<Inspected> {
  return JSON.parse((await cli.run(["inspect", String(port), "--json"])).text);
}

requires.test(
  [requires.program("python3", "python3")],
  "inspect shows each connection of a server whose supervisor sleeps, and --explain each call, with the time they took",
  async () => {
    await using cli = new Cli(BUN);
    const port = freePort();
    cli.start(["wrap", "--", "python3", "-c", SERVE, String(port)]);
    await until("the listener", async () => (await cli.run(["inspect", String(port)])).code === 0);
    const { code, stderr } = await cli.run(["wrap", "--explain", "--", "python3", "-c", DIAL, String(port)]);
    expect(code).toBe(0);
    const [, calls, averageUs] = /^\s*connect\s+(\d+)\s+([\d.]+)/m.exec(stderr) ?? [];
    expect(Number(calls)).toBeGreaterThanOrEqual(CONNECTIONS); // and what the C library asks name services
    expect(stderr).toMatch(new RegExp(`connect +127.0.0.1:${port} +${CONNECTIONS} +to /`));
    expect(Number(averageUs)).toBeGreaterThan(0);
    const { connections, traps, trapUs } = await inspect(cli, port);
    expect(connections.unix).toBe(CONNECTIONS);
    expect(traps).toBeGreaterThanOrEqual(CONNECTIONS);
    expect(trapUs).toBeGreaterThan(0);
  },
  60_000,
);
