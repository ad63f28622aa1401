/** Paths as long as the system allows, which no message of the protocol has room for: of a program, and of a file of rules. */
import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { TestBroker } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";

expectNoFdLeaks();

const PYTHON = "/usr/bin/python3";

/** Offers a service and an open file, and each of them a second time, and a bundle of which there is as much to say as of any,
 *  under the longest name; then lists. Prints the strings of what comes back. */
const CLIENT = `
import array, fcntl, os, socket, struct, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
def text(t):
    b = t.encode() + b"\\0"; return struct.pack("I", len(b)) + b + b"\\0" * (-len(b) % 4)
def message(o, op, body): return struct.pack("II", o, (8 + len(body)) << 16 | op) + body
null = array.array("i", [os.open("/dev/null", os.O_RDONLY)])
s.sendall(message(1, 1, struct.pack("I", 2)) + message(2, 0, struct.pack("I", 1) + text("shmlink_manager_v1") + struct.pack("II", 1, 3)))
s.sendmsg([message(3, 0, text("far"))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, null)])
for id in 4, 5: s.sendall(message(3, 1, struct.pack("I", id) + text("service") + struct.pack("I", 0)))
for id in 6, 7: s.sendall(message(3, 7, struct.pack("I", id) + text("offer")))
big = os.memfd_create("big", os.MFD_ALLOW_SEALING); os.ftruncate(big, 2 ** 63 - 4096); fcntl.fcntl(big, 1033, 31)
s.sendall(message(3, 7, struct.pack("I", 9) + text("b" * 128)))
for _ in range(28): s.sendmsg([message(9, 1, b"")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [big]))])
s.sendall(message(9, 2, struct.pack("I", 0)) + message(3, 6, struct.pack("I", 10) + text("b" * 128)))
data = b""
while struct.pack("II", 10, 8 << 16 | 1) not in data:
    more = s.recv(4096)
    if not more: break
    data += more
print("".join(chr(c) if 32 <= c < 127 else " " for c in data))
`;

/** A directory whose path leaves room for a short name. */
function deepDirectory(below: string): string {
  const part = `/${"d".repeat(200)}`;
  const parts = part.repeat(Math.floor((4060 - below.length) / part.length));
  const directory = `${below}${parts}/${"e".repeat(4069 - below.length - parts.length)}`;
  mkdirSync(directory, { recursive: true });
  return directory;
}

requires.test(
  [requires.file(PYTHON, "python3")],
  "who holds a name is named, and what he offers is listed, however long his program's path is",
  async () => {
    await using broker = new TestBroker();
    using other = broker.connect();
    const program = `${deepDirectory(broker.directory)}/python3`;
    copyFileSync(PYTHON, program);
    const { stdout, stderr } = spawnSync(program, ["-c", CLIENT, broker.socketPath], {
      encoding: "utf8",
      env: { PYTHONHOME: "/usr" },
    });
    for (const wish of ['listen as "service"', 'offer "offer"'])
      expect(stdout, stderr).toMatch(
        new RegExp(`Cannot ${wish}: process \\d+ \\(/[^)]{399}\\) does already; end it, or take another name`),
      );
    const seals = '"seals":["seal","shrink","grow","write","future-write"]';
    expect(
      stdout.split(`{"type":"memfd","access":"read-write","sizeBytes":9223372036854772000,${seals}}`),
    ).toHaveLength(29);
    other.sync();
  },
);

test("a rule is named, and a channel listed, however long the path of the rule's file is", async () => {
  await using broker = new TestBroker();
  const path = `${deepDirectory(broker.directory)}/s.toml`;
  const all = '["connect", "listen", "dial", "list"]';
  writeFileSync(
    path,
    `[[allow]]\nname = "owner"\nuid = "owner"\naction = ${all}\n[[deny]]\nuid = "any"\naction = "offer"\n`,
  );
  broker.env["SHMLINK_CONFIG"] = path;
  using link = broker.connect({ wake: true });
  using service = link.listen("far");
  const [channel, accepted] = await Promise.all([link.dialAsync("far"), service.acceptAsync()]);
  expect(link.list().map(({ kind }) => kind)).toEqual(["broker", "service", "channel"]);
  expect(() => link.offer(`x${"y".repeat(126)}`)).toThrow(/^Cannot offer "xy+": user \d+ may not offer it \(rule "/);
  for (const end of [channel, accepted]) end?.close();
  link.sync();
});
