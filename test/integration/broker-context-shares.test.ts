/** However many contexts a user fills up, each has something left, and so has he himself; another user has all of his. */
import { expect } from "bun:test";
import { spawnSync } from "node:child_process";
import { chmodSync } from "node:fs";
import { errno, pipe, SyscallError } from "../../ffi/mod.ts";
import { listenOn } from "../../lib/transport/socket-path.ts";
import { TestBroker } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { message, RawPeer } from "../helpers/raw-peer.ts";
import { requires } from "../helpers/requires.ts";

expectNoFdLeaks();

const NOBODY = "65534";
const MOST = 16;
const CONFIG = `[limits]
maxSessionsPerUser = ${MOST}

[[allow]]
engine = "e"
action = ["connect"]

[[allow]]
uid = ${NOBODY}
action = ["connect"]
`;

/** Connects as often as it is let in, and prints how often that was. */
const CLIENT = `
import socket, struct, sys
inside = []
while True:
    s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.settimeout(10)
    try: s.sendall(struct.pack("III", 1, 12 << 16, 2))
    except BrokenPipeError: break
    if s.recv(8)[:4] != struct.pack("I", 2): break
    inside.append(s)
print(len(inside))
`;

/** Connects as often as it is let in. */
function fill(path: string, stack: DisposableStack): number {
  for (let count = 0; ; count++) {
    const peer = stack.use(new RawPeer(path));
    if (!isAnswered(peer)) return count;
  }
}

/** Who is not let in may hear it before he asks. */
function isAnswered(peer: RawPeer): boolean {
  try {
    peer.send(message(1, 0, 2));
  } catch (error) {
    if (error instanceof SyscallError && error.errno === errno.EPIPE) return false;
    throw error;
  }
  return peer.next()?.sender === 2;
}

const needs = [
  requires.root(),
  requires.program("setpriv", "util-linux"),
  requires.file("/usr/bin/python3", "python3"),
];

requires.test(needs, "contexts that fill up leave something to each other, and all of it to users", async () => {
  await using broker = new TestBroker(CONFIG);
  using link = broker.connect();
  using stack = new DisposableStack();
  const { reader, writer } = pipe();
  for (const end of [reader, writer]) stack.use(end);
  const paths = Array.from({ length: 9 }, (_, index) => `${broker.directory}/${index}.sock`);
  for (const [index, path] of paths.entries()) {
    using listener = listenOn(path);
    link.createContext({ engine: "e", app: "a", instance: String(index), listener, closeFd: reader });
  }
  expect(paths.map((path) => fill(path, stack))).toEqual([16, 8, 4, 2, 2, 2, 2, 2, 2]);
  expect(1 + fill(broker.socketPath, stack)).toBe(MOST);
  chmodSync(broker.directory, 0o755);
  chmodSync(broker.socketPath, 0o666);
  const program = ["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "/usr/bin/python3", "-c", CLIENT];
  const { stdout, stderr } = spawnSync("setpriv", [...program, broker.socketPath], { encoding: "utf8" });
  expect(stderr + stdout).toBe(`${MOST}\n`);
});
