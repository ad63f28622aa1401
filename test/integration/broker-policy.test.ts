/** What a running broker knows of a peer: another user is refused, and let in as far as a rule says; rules by exe, unit,
 *  cgroup, gid and groups. */
import { expect } from "bun:test";
import { spawnSync } from "node:child_process";
import { chmodSync } from "node:fs";
import { FailureError } from "../../lib/errors.ts";
import { unitOf } from "../../lib/policy/match.ts";
import { processIdentity } from "../../lib/transport/peer.ts";
import { TestBroker } from "../helpers/broker.ts";
import { requires } from "../helpers/requires.ts";

const NOBODY = 65_534;
/** Supplementary, and that of no process here. */
const GUESTS = 54_321;

/** Says hello and dials as another user; prints the strings of what comes back. */
const CLIENT = `
import array, os, socket, struct, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.settimeout(10)
def text(t):
    b = t.encode() + b"\\0"; return struct.pack("I", len(b)) + b + b"\\0" * (-len(b) % 4)
def message(o, op, body): return struct.pack("II", o, (8 + len(body)) << 16 | op) + body
null = array.array("i", [os.open("/dev/null", os.O_RDONLY)])
try:
    s.sendall(message(1, 1, struct.pack("I", 2)) + message(2, 0, struct.pack("I", 1) + text("shmlink_manager_v1") + struct.pack("II", 1, 3)))
    s.sendmsg([message(3, 0, text("other"))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, null)])
    s.sendall(message(3, 2, struct.pack("I", 4) + text("guarded") + struct.pack("I", 0)) + message(1, 0, struct.pack("I", 5)))
except OSError: pass
data = b""
try:
    while struct.pack("II", 5, 12 << 16) not in data:
        more = s.recv(4096)
        if not more: break
        data += more
except OSError: pass
print("".join(chr(c) if 32 <= c < 127 else " " for c in data))
`;

function dialAsNobody(path: string): string {
  const program = [
    "--reuid",
    String(NOBODY),
    "--regid",
    String(NOBODY),
    "--groups",
    String(GUESTS),
    "/usr/bin/python3",
    "-c",
    CLIENT,
    path,
  ];
  const { stdout, stderr, status } = spawnSync("setpriv", program, { encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  return stdout;
}

const cases: readonly (readonly [name: string, config: string, expected: RegExp])[] = [
  [
    "is refused by default",
    "",
    /no rule allows user 65534 to connect \(rule "default"\); add an \[\[allow\]\] for it to the broker's shmlink.toml/,
  ],
  [
    "gets as far as the rules allow, and hears which rule stopped it",
    '[[allow]]\nname = "guests"\nuid = [65534]\naction = ["connect", "list"]\n',
    /Cannot dial "guarded": no rule allows user 65534 to dial it/,
  ],
  [
    "is let in by a rule for one of its supplementary groups",
    `[[allow]]\ngid = ${GUESTS}\naction = ["connect"]\n`,
    /Cannot dial "guarded": no rule allows user 65534 to dial it/,
  ],
  [
    "is stopped by a [[deny]], which is named with its file and line",
    '[[allow]]\nname = "all"\nuid = "any"\naction = ["connect", "dial"]\n\n[[deny]]\nname = "secret"\naction = ["dial"]\nservice = "guard*"\n',
    /Cannot dial "guarded": user 65534 may not dial it \(rule "secret" at .*shmlink\.toml:6\)/,
  ],
];

const needs = [
  requires.root(),
  requires.program("setpriv", "util-linux"),
  requires.file("/usr/bin/python3", "python3"),
];

for (const [name, config, expected] of cases) {
  requires.test(needs, `another user ${name}`, async () => {
    await using broker = new TestBroker(config);
    using link = broker.connect();
    if (!config.includes("secret")) link.listen("guarded");
    chmodSync(broker.directory, 0o755);
    chmodSync(broker.socketPath, 0o666);
    expect(dialAsNobody(broker.socketPath)).toMatch(expected);
  });
}

const SELF = processIdentity(process.pid);

/** What is asked about us → what fits, and what does not. */
const KNOWN: readonly (readonly [key: string, ours: string | number, others: string | number])[] = [
  ["exe", SELF?.exe ?? "", "/usr/bin/nobody-like-this"],
  ["gid", SELF?.gid ?? -1, GUESTS],
  ["cgroup", SELF?.cgroup ?? "", "/nothing/like/this"],
  ["unit", unitOf(SELF?.cgroup ?? "") || "*", "nothing-like-this.service"],
];

for (const [key, ours, others] of KNOWN) {
  const isKnown = ours !== "" && (key !== "unit" || SELF?.cgroup !== "");
  const need = requires.feature(isKnown, "no cgroup v2 is mounted here");
  requires.test([need], `a rule by ${key} fits who has that, and nobody else`, async () => {
    const allow = (service: string, value: string | number): string =>
      `[[allow]]\n${key} = ${JSON.stringify(value)}\naction = "listen"\nservice = "${service}"\n`;
    const owner = '[[allow]]\nname = "owner"\nuid = "owner"\naction = ["connect", "list"]\n';
    await using broker = new TestBroker(owner + allow("ours", ours) + allow("others", others));
    using link = broker.connect();
    using service = link.listen("ours");
    expect(service.name).toBe("ours");
    expect(() => link.listen("others")).toThrow(FailureError);
  });
}
