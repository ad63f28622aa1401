/** Why connections stayed on TCP: the reason as a wrapped client's supervisor gave it, from the broker to who asks. */
import { expect } from "bun:test";
import { requires } from "../helpers/requires.ts";
import { BUN } from "../helpers/runtimes.ts";
import { freePort, until } from "../helpers/wrapped.ts";
import { Cli } from "./fixture.ts";

const REASON = "the program wants completions of MSG_ZEROCOPY";

const SERVE = `
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True: listener.accept()[0].close()
`;
const DIAL = `
import socket, sys
SO_ZEROCOPY = 60
with socket.socket() as s:
    s.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    s.connect(("127.0.0.1", int(sys.argv[1])))
`;

requires.test(
  [requires.program("python3", "python3")],
  "inspect counts fallbacks by reason, in the words of the supervisor",
  async () => {
    await using cli = new Cli(BUN);
    const port = String(freePort());
    cli.start(["wrap", "--", "python3", "-c", SERVE, port]);
    await until("the listener", async () => (await cli.run(["inspect", port])).code === 0);
    expect((await cli.run(["wrap", "--", "python3", "-c", DIAL, port])).code).toBe(0);
    const { connections, fallbacks } = await until("the fallback", async () => {
      const seen = JSON.parse((await cli.run(["inspect", port, "--json"])).text);
      return seen.connections.fallback > 0 && seen;
    });
    expect([connections.fallback, fallbacks]).toEqual([1, { [REASON]: 1 }]);
    expect((await cli.run(["inspect", port])).text).toContain(`\nfallbacks\n  ${REASON}  1\n`);
  },
  60_000,
);
