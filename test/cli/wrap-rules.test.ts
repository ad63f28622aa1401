/** wrap's rules on the command line, in a file and in the configuration; what it says of itself; sockets of systemd. */
import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { requires } from "../helpers/requires.ts";
import { BUN, RUNTIMES } from "../helpers/runtimes.ts";
import { freePort, Running, until } from "../helpers/wrapped.ts";
import { Cli, errorLine } from "./fixture.ts";

const python = requires.program("python3", "python3");
const LIMIT_MS = 30_000;

test("--check and --print say what the rules are and run nothing", async () => {
  await using cli = new Cli(BUN);
  const file = join(cli.directory, "rules");
  writeFileSync(file, "# comment\nin,addr=10.0.0.0/8,port=80-81,path=/run/%p,mode=0660\n");
  const rules = ["-r", "out,reject=EPERM", "--rule=udp,ignore", "-f", file];
  expect((await cli.run(["wrap", "--check", ...rules])).text).toBe("3 rules, all right\n");
  expect((await cli.run(["wrap", "--check", "-r", "udp,ignore"])).text).toBe("1 rule, all right\n");
  const { code, text } = await cli.run(["wrap", "-p", ...rules, "--", "no-such-program"]);
  expect(code).toBe(0);
  expect(text.split("\n").map((line) => line.trim().replace(/ {2,}/g, " | "))).toEqual([
    "APPLIES TO | DOES | RULE",
    "1 | out tcp any address, any port | reject EPERM | out,reject=EPERM",
    "2 | in, out udp (never) any address, any port | ignore | udp,ignore",
    "3 | in tcp 10.0.0.0/8, ports 80-81 | path /run/%p, mode 0660 | in,addr=10.0.0.0/8,port=80-81,path=/run/%p,mode=0660",
    "",
  ]);
  expect((await cli.run(["wrap", "-p"])).text).toContain("No rules");
});

test("a wrong rule is wrong usage, in a file a failure with its line", async () => {
  await using cli = new Cli(BUN);
  const wrong = await cli.run(["wrap", "-r", "in,prot=80", "--", "true"]);
  expect([wrong.code, errorLine(wrong)]).toEqual([
    2,
    'shmlink: Cannot use a rule: Unknown field "prot" in a rule: did you mean "port"?',
  ]);
  const file = join(cli.directory, "rules");
  writeFileSync(file, "ignore\nport=x\n");
  const endless = await cli.run(["wrap", "-c", "-f", "/dev/full"]);
  expect(endless.stderr).toBe('shmlink: Cannot read rules "/dev/full": it is a device, a file is wanted\n');
  const inFile = await cli.run(["wrap", "-c", "-f", file]);
  expect(inFile.code).toBe(1);
  expect(errorLine(inFile)).toContain(`${file}: Line 2: Cannot use port "x"`);
});

test("an owner or a group that nobody is, is wrong at --check, --print and the start; a number is right", async () => {
  await using cli = new Cli(BUN);
  for (const mode of [["--check"], ["--print"], ["--", "true"]]) {
    const wrong = await cli.run(["wrap", "-r", "in,path=/run/x,owner=no-such-user", ...mode]);
    expect([wrong.code, errorLine(wrong)]).toEqual([
      2,
      'shmlink: Cannot use a rule: Unknown owner "no-such-user": a name or number of a user is wanted',
    ]);
  }
  const file = join(cli.directory, "rules");
  writeFileSync(file, "ignore\n\nin,path=/run/x,group=no-such-group\n");
  const inFile = await cli.run(["wrap", "-c", "-f", file]);
  expect(inFile.code).toBe(1);
  expect(errorLine(inFile)).toContain(`${file}: Line 3: Unknown group "no-such-group"`);
  const right = ["owner=root,group=root", "owner=4000000000,group=7"].flatMap((who) => ["-r", `in,path=/run/x,${who}`]);
  expect((await cli.run(["wrap", "--check", ...right])).text).toBe("2 rules, all right\n");
  const beyond = await cli.run(["wrap", "--check", "-r", "in,path=/run/x,owner=4294967295"]);
  expect(errorLine(beyond)).toContain('Unknown owner "4294967295"');
});

const DIAL = `
import socket, sys
try: socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5); print("connected")
except OSError as error: print(error.strerror)
`;

requires.test(
  [python],
  "rules of the configuration apply by program name, after those of the command line",
  async () => {
    await using cli = new Cli(BUN);
    const file = join(cli.directory, "shmlink.toml");
    writeFileSync(
      file,
      '[wrap]\nrules = { python3 = ["out,reject=EPERM"], "*" = ["out,reject=ENETUNREACH"], other = ["out,reject"] }\n',
    );
    const env = { SHMLINK_CONFIG: file };
    const dial = ["python3", "-c", DIAL, "9"];
    expect((await cli.run(["wrap", "--", ...dial], { env })).text).toBe("Operation not permitted\n");
    expect((await cli.run(["wrap", "--", "sh", "-c", '"$@"', "sh", ...dial], { env })).text).toBe(
      "Network is unreachable\n",
    );
    expect((await cli.run(["wrap", "-r", "out,reject=EIO", "--", ...dial], { env })).text).toBe("Input/output error\n");
    writeFileSync(file, '[wrap]\nrules = { python3 = ["foo"] }\n');
    expect(errorLine(await cli.run(["wrap", "--", ...dial], { env }))).toContain(
      'wrap.rules of "python3": Unknown field',
    );
    writeFileSync(file, "[wrap]\nrules = { python3 = 1 }\n");
    expect(errorLine(await cli.run(["wrap", "--", ...dial], { env }))).toContain("a list of strings for each name");
  },
  LIMIT_MS,
);

const SERVE = `
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
listener.accept()[0].recv(1)
`;

for (const runtime of RUNTIMES) {
  requires.test(
    [python],
    `--explain says what was trapped, where sockets went and why, and --trace writes it down, on ${runtime.name}`,
    async () => {
      await using cli = new Cli(runtime);
      const [port, other] = [freePort(), freePort()];
      const trace = join(cli.directory, "trace");
      const server = cli.start(["wrap", "--name=web", "--", "python3", "-c", SERVE, String(port)]);
      await until("the server", () => server.child.stdout?.readableLength === 0 && listed(cli, port));
      const script = `${DIAL}\ntry: socket.create_connection(("127.0.0.1", ${other}))\nexcept OSError: pass`;
      const client = await cli.run([
        "wrap",
        "--explain",
        `--trace=${trace}`,
        `--rule=out,port=${other},reject`,
        "--",
        "python3",
        "-c",
        script,
        String(port),
      ]);
      expect([client.code, client.text]).toEqual([0, "connected\n"]);
      // Two of the program's own, and those that name services of the C library make to look a user up.
      const connects = Number(/shmlink: trapped calls\n.*\n {2}connect +(\d+) /.exec(client.stderr)?.[1]);
      expect(connects).toBeGreaterThanOrEqual(2);
      expect(client.stderr).toMatch(new RegExp(`connect +127.0.0.1:${port} +1 +to /\\S+\\.tcp +- +-`));
      expect(client.stderr).toMatch(
        new RegExp(`connect +127.0.0.1:${other} +1 +refused +out,port=${other},reject +EACCES`),
      );
      const lines = readFileSync(trace, "utf8").trim().split("\n");
      const records = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
      expect(records.filter(({ event, call }) => event === "trap" && call === "connect")).toHaveLength(connects);
      expect(records.filter(({ event, call }) => event === "decision" && call === "connect")).toHaveLength(2);
      expect(records.find(({ event, outcome }) => event === "decision" && outcome === "unix")).toMatchObject({
        call: "connect",
        address: "127.0.0.1",
        port,
      });
      for (const { atMs, us } of records) expect(typeof atMs === "number" && typeof (us ?? 0) === "number").toBe(true);
      expect((await server.result).code).toBe(0);
    },
    LIMIT_MS,
  );
}

requires.test(
  [python],
  "a trace on a full disk is said once and its lost lines are counted, and the program does not notice",
  async () => {
    await using cli = new Cli(BUN);
    const dial = 'import socket\nfor _ in range(5):\n s = socket.socket(); print(s.connect_ex(("127.0.0.1", 1)))';
    const args = ["wrap", "--trace=/dev/full", "--explain", "--", "python3", "-c", dial];
    const { code, text, stderr } = await cli.run(args);
    expect([code, text]).toEqual([0, "111\n".repeat(5)]);
    expect(stderr.match(/Lines of the trace "\/dev\/full" are lost.*ENOSPC/g)).toHaveLength(1);
    const lost = Number(/shmlink: (\d+) lines? of the trace could not be written/.exec(stderr)?.[1]);
    expect(lost).toBeGreaterThanOrEqual(10); // a call and a decision for each
  },
  LIMIT_MS,
);

function listed(cli: Cli, port: number): boolean {
  try {
    using link = cli.link();
    return link.list(String(port)).some(({ kind }) => kind === "listener");
  } catch {
    return false; // no broker yet
  }
}

requires.test(
  [python],
  "name= in a rule is what listings call the program of that listener; inspect counts traps and their time",
  async () => {
    await using cli = new Cli(BUN);
    const port = freePort();
    const rule = `in,port=${port},name=shop`;
    const server = cli.start(["wrap", "--name=usual", "-r", rule, "--", "python3", "-c", SERVE, String(port)]);
    await until("the listener", () => listed(cli, port));
    const inspect = async () => JSON.parse((await cli.run(["inspect", String(port), "--json"])).text);
    const record = await inspect();
    expect(record).toMatchObject({ program: "shop", tcp: true });
    expect(record.owner.exe).toContain("python3");
    // It is listed by then, and its listen() not yet answered, perhaps.
    await until("the traps and their time", async () => {
      const { traps, trapUs } = await inspect();
      return traps > 0 && trapUs > 0;
    });
    await cli.run(["wrap", "--", "python3", "-c", DIAL, String(port)]);
    expect((await server.result).code).toBe(0);
  },
  LIMIT_MS,
);

const activate = requires.program("systemd-socket-activate", "systemd");

requires.test(
  [python, activate],
  "in,systemd= puts a socket of systemd in the place of the program's",
  async () => {
    await using cli = new Cli(BUN);
    const path = join(cli.directory, "given.sock");
    const serve = `import os\nassert "LISTEN_FDS" not in os.environ\n${SERVE}`;
    const wrap = cli.command("wrap", "-r", "in,systemd=web", "--", "python3", "-c", serve, String(freePort()));
    const env = Object.entries(cli.env).flatMap(([name, value]) =>
      value === undefined ? [] : [`--setenv=${name}=${value}`],
    );
    const server = new Running(["systemd-socket-activate", "-l", path, "--fdname=web", ...env, ...wrap], cli.directory);
    const client = `import socket; s = socket.socket(socket.AF_UNIX); s.connect(${JSON.stringify(path)}); s.sendall(b"x")`;
    await server.match(/Listening on/);
    const dialling = new Running(["python3", "-c", client], cli.directory);
    expect([await dialling.exit, await server.exit]).toEqual([0, 0]);
    expect(server.output).toContain("listening\n");
  },
  LIMIT_MS,
);

requires.test(
  [python, activate],
  "LISTEN_FDS reaches the program, with its own pid",
  async () => {
    await using cli = new Cli(BUN);
    const path = join(cli.directory, "given.sock");
    const script = `
import os, socket
assert int(os.environ["LISTEN_PID"]) == os.getpid(), os.environ["LISTEN_PID"]
listener = socket.socket(fileno=3)
print("fds", os.environ["LISTEN_FDS"], os.environ["LISTEN_FDNAMES"], listener.getsockname(), flush=True)
listener.accept()
`;
    const env = Object.entries(cli.env).flatMap(([name, value]) =>
      value === undefined ? [] : [`--setenv=${name}=${value}`],
    );
    // The launcher, which keeps its pid and writes down what was inherited.
    const wrap = [join(import.meta.dir, "../../bin/shmlink"), "wrap", "--", "python3", "-c", script];
    const server = new Running(["systemd-socket-activate", "-l", path, "--fdname=web", ...env, ...wrap], cli.directory);
    await server.match(/Listening on/);
    const client = `import socket; s = socket.socket(socket.AF_UNIX); s.connect(${JSON.stringify(path)})`;
    const dialling = new Running(["python3", "-c", client], cli.directory);
    expect([await dialling.exit, await server.exit], server.output).toEqual([0, 0]);
    expect(server.output).toContain(`fds 1 web ${path}`);
  },
  LIMIT_MS,
);
