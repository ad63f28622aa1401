/** Programs under wrap, each by a driver process of its own, and a check that they leave nothing behind. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { bind, constants, errno, type OwnedFd, SyscallError, socket, unixAddress } from "../../ffi/mod.ts";
import { type FileEntry, FileRegistry } from "./file-registry.ts";
import { makeRuntimeDir, type RuntimeDir } from "./runtime-dir.ts";
import { BUN, ROOT, type Runtime } from "./runtimes.ts";

const DRIVER = "test/helpers/wrap-driver.ts";
const PATIENCE_MS = 45_000;

/** Waits until `probe` gives something; fails after a long while with `what`. */
export async function until<T>(
  what: string,
  probe: () => T | undefined | false | Promise<T | undefined | false>,
  patienceMs: number = PATIENCE_MS,
): Promise<T> {
  const giveUp = Date.now() + patienceMs;
  for (;;) {
    const found = await probe();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > giveUp) throw new Error(`Waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A running program and what it has written. */
export class Running {
  readonly child: ChildProcess;
  readonly exit: Promise<number>;
  output = "";

  constructor(argv: readonly string[], cwd: string, stdin: "ignore" | "pipe" = "ignore") {
    const [program = "", ...args] = argv;
    const { LISTEN_FDS: _, ...env } = process.env;
    this.child = spawn(program, args, {
      cwd,
      env: { ...env, PATH: `${env["PATH"]}:/usr/sbin` },
      stdio: [stdin, "pipe", "pipe"],
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.on("data", (data: Buffer) => {
        this.output += data.toString();
      });
    }
    this.exit = new Promise((resolve, reject) => {
      this.child.on("error", reject);
      this.child.on("close", (code, signal) => resolve(code ?? (signal === null ? -1 : -2)));
    });
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** The first group of a match in the output. */
  async match(pattern: RegExp): Promise<string> {
    const match = await until(
      `${pattern} in ${JSON.stringify(this.output)}`,
      () => pattern.exec(this.output) ?? undefined,
    );
    return match[1] ?? match[0];
  }
}

/** What a program wrote, and apart from it what wrap's `--log` said among that. */
export function splitLog(output: string): { readonly program: string; readonly log: string } {
  const isOurs = (line: string): boolean => line.startsWith("wrap info: ");
  const lines = output.split("\n");
  return { program: lines.filter((line) => !isOurs(line)).join("\n"), log: lines.filter(isOurs).join("\n") };
}

export type WrapChoices = { readonly flags?: readonly string[]; readonly runtime?: Runtime };

/** The wrapped and plain programs of one test, with a registry and folder in common. */
export class Stage implements AsyncDisposable {
  readonly #dir: RuntimeDir = makeRuntimeDir();
  readonly #running: Running[] = [];
  readonly registry: FileRegistry = new FileRegistry(join(this.#dir.path, "registry"));

  get path(): string {
    return this.#dir.path;
  }

  wrap(argv: readonly string[], options: WrapChoices & { readonly input?: boolean } = {}): Running {
    return this.#start(this.wrapCommand(argv, options), options.input === true ? "pipe" : "ignore");
  }

  /** The command line that wrap() starts. */
  wrapCommand(argv: readonly string[], options: WrapChoices = {}): string[] {
    const { flags = [], runtime = BUN } = options;
    return runtime.command(DRIVER, this.path, ...flags, "--", ...argv);
  }

  plain(argv: readonly string[]): Running {
    return this.#start(argv);
  }

  #start(argv: readonly string[], stdin: "ignore" | "pipe" = "ignore"): Running {
    const running = new Running(argv, this.path, stdin);
    this.#running.push(running);
    return running;
  }

  listener(port: number): Promise<FileEntry> {
    return until(`a listener on port ${port}`, () => this.registry.entries().find((entry) => entry.port === port));
  }

  sockets(): string[] {
    return existsSync(join(this.path, "sockets")) ? readdirSync(join(this.path, "sockets")) : [];
  }

  /** Everything has ended by itself or is ended now, and nothing may be left. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const { child } of this.#running)
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGTERM");
    await Promise.all(this.#running.map(({ exit }) => exit));
    const left = [...this.sockets(), ...this.registry.entries().map(({ path }) => path)];
    this.#dir[Symbol.dispose]();
    if (left.length > 0) throw new Error(`Left behind: ${left.join(", ")}`);
  }
}

const built: Map<string, string> = new Map();

/** Compiles a fixture program once per run, where `npm test` removes it at its end.
 *  @param header  what is included before it @returns its path */
export function compileFixture(name: string, header?: string): string {
  const key = header === undefined ? name : `${name} ${header}`;
  const known = built.get(key);
  if (known !== undefined) return known;
  const output = join(mkdtempSync(join(process.env["SHMLINK_TEST_WORK"] ?? "/tmp", "shm-")), name);
  const folder = join(ROOT, "test/fixtures/programs");
  const first = header === undefined ? [] : ["-include", join(folder, header)];
  const source = join(folder, `${name}.c`);
  execFileSync("cc", ["-O1", "-Wall", "-Wextra", "-Werror", "-pthread", ...first, "-o", output, source]);
  built.set(key, output);
  return output;
}

const FIRST_PORT = 20_000;
const PORTS_EACH = 100;
const SHARES = 120; // up to where the ephemeral ones begin

/** A share of the ports is this process's as long as it holds a socket of that name: between freePort() and the server's
 *  bind() nobody else who runs tests finds the same one free. */
function takeShare(): readonly [share: number, holder: OwnedFd] {
  for (let tried = 0; tried < SHARES; tried++) {
    const share = (process.pid + tried) % SHARES;
    const holder = socket(constants.AF_UNIX, constants.SOCK_DGRAM);
    try {
      bind(holder, unixAddress(`@shmlink-test-ports-${share}`));
      return [share, holder];
    } catch (error) {
      holder.close();
      if (!(error instanceof SyscallError) || error.errno !== errno.EADDRINUSE) throw error;
    }
  }
  throw new Error(`Cannot have ports for tests: all ${SHARES} shares are taken`);
}

const share: readonly [number, OwnedFd] = takeShare();
let portsGiven = 0;

/** A port that nobody uses at the moment, below the ephemeral ones. */
export function freePort(): number {
  for (;;) {
    const port = FIRST_PORT + share[0] * PORTS_EACH + (portsGiven % PORTS_EACH);
    portsGiven += 1;
    if (!isInUse(port)) return port;
  }
}

/** A load elsewhere on the machine leaves tens of thousands of connections in TIME_WAIT, 150 bytes each. */
const MAX_TABLE_BYTES = 1 << 28;

function isInUse(port: number): boolean {
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, "0")} `;
  return ["/proc/net/tcp", "/proc/net/tcp6"].some((file) =>
    execFileSync("cat", [file], { maxBuffer: MAX_TABLE_BYTES }).toString().includes(wanted),
  );
}

// The first child makes the runtime open descriptors of its own, which no test has leaked.
execFileSync("true");
await new Running(["true"], "/").exit;
