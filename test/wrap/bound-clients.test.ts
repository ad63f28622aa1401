/** Clients that bind a port of their own before they connect: it is theirs for as long as the connection, as TCP has it. */
import { expect } from "bun:test";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { Stage } from "../helpers/wrapped.ts";

expectNoFdLeaks();
const python = requires.program("python3", "python3");

/** Runs a program natively and wrapped, where it has to say the same and fall back nowhere. @returns what it says */
async function sameWrapped(code: string): Promise<string> {
  await using stage = new Stage();
  const [native, wrapped] = [stage.plain(["python3", "-c", code]), stage.wrap(["python3", "-c", code])];
  expect([await native.exit, await wrapped.exit], native.output + wrapped.output).toEqual([0, 0]);
  expect(wrapped.output).toBe(native.output);
  expect(stage.registry.fallbacks()).toEqual([]);
  return native.output;
}

/** 200 processes that begin at once make ten connections each, each from a port that the kernel has chosen for it at bind(). */
const CROWD = `
import os, socket
listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
address = listener.getsockname()
begin, told = os.pipe()
for _ in range(200):
    if os.fork() == 0:
        listener.close()
        os.close(told)
        os.read(begin, 1)
        own = [socket.create_connection(address, 60, ("127.0.0.1", 0)) for _ in range(10)]
        for each in own: each.sendall(b"%5d" % each.getsockname()[1])
        for each in own: each.recv(1)
        os._exit(0)
os.close(told)
accepted = [listener.accept() for _ in range(2000)]
print("ports:", len({name[1] for _, name in accepted}))
print("as the client says:", all(int(each.recv(5)) == name[1] for each, name in accepted))
for each, _ in accepted: each.sendall(b"x")
print("ended:", [os.wait()[1] for _ in range(200)] == [0] * 200)
`;

requires.test(
  [python],
  "two thousand connections of 200 processes, each from a port that was bound, are handed off, each with its own",
  async () => {
    expect(await sameWrapped(CROWD)).toBe("ports: 2000\nas the client says: True\nended: True\n");
  },
  120_000,
);

const PORT = `
import errno, os, select, socket
def client(family, reuse=False):
    s = socket.socket(family)
    if reuse: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return s
def attempt(action):
    try: return action() or "done"
    except OSError as error: return errno.errorcode[error.errno]
for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    listener = socket.create_server((host, 0), family=family)
    for reuse in (False, True):
        bound = client(family, reuse)
        bound.bind((host, 0))
        name = bound.getsockname()
        earlier, watch = os.dup(bound.fileno()), select.epoll()
        watch.register(bound, select.EPOLLIN)
        watch.register(earlier, select.EPOLLIN)
        bound.connect(listener.getsockname())
        accepted, peer = listener.accept()
        print(peer == name, bound.getsockname() == name, socket.socket(fileno=os.dup(earlier)).getpeername() == listener.getsockname())
        accepted.sendall(b"x")
        print("watched:", [fd in (bound.fileno(), earlier) for fd, _ in watch.poll(10)])
        os.close(earlier)
        other = client(family, True)
        print("taken:", attempt(lambda: client(family).bind(name)), attempt(lambda: other.bind(name)))
        other.close()
        copy = os.dup(bound.fileno())
        bound.close()
        print("a duplicate has it:", attempt(lambda: client(family).bind(name)))
        os.close(copy)
        accepted.close()
        if reuse: print("free:", attempt(lambda: client(family, True).bind(name)))
`;

requires.test(
  [python],
  "a port that was bound is taken until the last descriptor of the connection is closed, and shared as SO_REUSEADDR says",
  async () => {
    expect(await sameWrapped(PORT)).toContain("taken: EADDRINUSE");
  },
);

const EVERYWHERE = `
import errno, socket
def attempt(family, *name):
    try: return socket.socket(family).bind(name) or "done"
    except OSError as error: return errno.errorcode[error.errno]
listener = socket.create_server(("127.0.0.1", 0))
for family, every, mapped in ((socket.AF_INET, "0.0.0.0", ""), (socket.AF_INET6, "::", "::ffff:")):
    bound = socket.socket(family)
    bound.bind((every, 0))
    port = bound.getsockname()[1]
    bound.connect((mapped + "127.0.0.1", listener.getsockname()[1]))
    print(bound.getsockname()[0], attempt(socket.AF_INET, "127.0.0.1", port), attempt(socket.AF_INET, "127.0.0.2", port))
    print(attempt(socket.AF_INET6, "::1", port))
`;

requires.test(
  [python],
  "a port that was bound for all addresses is free, once connected, for those that the connection does not use",
  async () => {
    expect(await sameWrapped(EVERYWHERE)).toContain("127.0.0.1 EADDRINUSE done\ndone\n");
  },
);
