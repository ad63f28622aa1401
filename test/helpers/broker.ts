/** A broker of our own for a test: a throw-away directory, started on demand or with options, always ended. */
import { spawn as spawnProcess } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { constants, kill } from "../../ffi/mod.ts";
import { BrokerLink, type ConnectOptions } from "../../lib/client/broker-link.ts";
import { FailureError } from "../../lib/errors.ts";
import { openFds } from "./open-fds.ts";

export const CHECKOUT: string = join(import.meta.dirname, "..", "..");
const ENTRY = join(CHECKOUT, "bin", "shmlink.ts");

export class TestBroker implements AsyncDisposable {
  readonly directory: string = mkdtempSync("/tmp/shmlink-test-");
  readonly socketPath: string = join(this.directory, "broker.sock");
  readonly configPath: string = join(this.directory, "shmlink.toml");
  readonly env: Record<string, string>;
  readonly #brokers: Set<number> = new Set();

  /** @param config  text of a shmlink.toml for the broker */
  constructor(config = "") {
    writeFileSync(this.configPath, config);
    const inherited = Object.entries(process.env).filter(([, value]) => value !== undefined) as [string, string][];
    this.env = { ...Object.fromEntries(inherited), SHMLINK_SOCKET: this.socketPath, SHMLINK_CONFIG: this.configPath };
  }

  /** Connects, starting the broker the first time. */
  connect(options: Partial<ConnectOptions> = {}): BrokerLink {
    const link = BrokerLink.connect({ name: "test", env: this.env, ...options });
    try {
      this.#brokers.add(brokerPid(link));
    } catch (error) {
      link.close(); // that broker is just ending
      throw error;
    }
    return link;
  }

  get pid(): number {
    const [pid] = [...this.#brokers].slice(-1);
    if (pid === undefined) throw new Error("No broker was started yet");
    return pid;
  }

  get log(): string {
    return readFileSync(join(this.directory, "broker.log"), "utf8");
  }

  /** Runs `bin/shmlink.ts` on this runtime with `args` against this broker. */
  async run(args: readonly string[], input = ""): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const child = spawnProcess(process.execPath, [ENTRY, ...args], { env: this.env, stdio: "pipe" });
    child.stdin.end(input);
    const [stdout, stderr] = [[] as Buffer[], [] as Buffer[]];
    child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
    const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
    return { code, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const pid of this.holders()) kill(pid, constants.SIGKILL); // or it would start the next broker
    this.#noteBroker();
    for (const pid of this.#brokers) {
      kill(pid, constants.SIGTERM);
      await waitUntil(() => !isRunning(pid), `broker ${pid} to end`);
    }
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** fdCount() of a broker that is done with those who have connected: the nothing that came instead of a doorbell is closed a
   *  moment later, by a thread of its own. One more it keeps for itself, for when it has no other. */
  async fdCountAtRest(): Promise<number> {
    const isNothing = (entry: string): boolean => entry.endsWith(" → /dev/null") && Number.parseInt(entry, 10) > 2;
    const isAtRest = (): boolean => openFds(this.pid).filter(isNothing).length <= 1;
    await waitUntil(isAtRest, "the broker to have closed what came with greetings");
    return this.fdCount();
  }

  /** How many descriptors the broker has, but for its link to a holder: whether there is one depends on how long things lived. */
  fdCount(): number {
    const links = readFileSync("/proc/net/unix", "latin1")
      .split("\n")
      .flatMap((line) => {
        const [, , , , type, , inode] = line.split(/\s+/);
        return type === SEQPACKET ? [`socket:[${inode}]`] : [];
      });
    return openFds(this.pid).filter((entry) => !links.some((link) => entry.endsWith(link))).length;
  }

  /** Processes that hold descriptors for the broker after this one. */
  holders(): number[] {
    return existsSync(`${this.socketPath}.held`) ? processesAt(this.socketPath, "hold") : [];
  }

  /** A command may have started one that no connect() has seen. */
  #noteBroker(): void {
    try {
      this.connect({ start: false }).close();
    } catch (error) {
      if (!(error instanceof FailureError)) throw error; // there is none, or it lets nobody in
    }
  }
}

/** As /proc/net/unix writes SOCK_SEQPACKET, which nobody but a broker and its holder speak. */
const SEQPACKET = "0005";

/** Connects to a broker that somebody else starts, once it listens: the socket's file is there a moment earlier. */
export async function connectWhenListening(broker: TestBroker): Promise<BrokerLink> {
  let link: BrokerLink | undefined;
  await waitUntil(() => {
    try {
      link = BrokerLink.connect({ name: "test", env: broker.env, start: false });
    } catch (error) {
      if (!(error instanceof FailureError && error.code === "no-broker")) throw error;
    }
    return link !== undefined;
  }, "the broker to listen");
  return link as unknown as BrokerLink;
}

/** Does it while the broker stands still, which then finds all of it at once. */
export function whileStopped<T>({ pid }: TestBroker, act: () => T): T {
  kill(pid, constants.SIGSTOP);
  try {
    return act();
  } finally {
    kill(pid, constants.SIGCONT);
  }
}

export function brokerPid(link: BrokerLink): number {
  const broker = link.list().find((entry) => entry.kind === "broker");
  if (broker === undefined) throw new Error("The listing does not name the broker");
  return broker.pid;
}

/** Processes that run `shmlink VERB` for that socket; killed ones that nobody has waited for do not count. */
export function processesAt(socketPath: string, verb: string): number[] {
  const isOne = (pid: number): boolean => {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, "latin1").split("\0");
      const env = readFileSync(`/proc/${pid}/environ`, "latin1").split("\0");
      return words.includes(verb) && env.includes(`SHMLINK_SOCKET=${socketPath}`) && isRunning(pid);
    } catch {
      return false; // ended meanwhile, or another user's
    }
  };
  return readdirSync("/proc").map(Number).filter(Number.isInteger).filter(isOne);
}

/** Whether the process is there and not a zombie. Of one that is killed the first thread may end before the others: they have
 *  its descriptors open still. */
export function isRunning(pid: number): boolean {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    return !/^State:\s+Z/m.test(status) || !/^Threads:\s+1$/m.test(status);
  } catch {
    return false;
  }
}

/** Waits for a condition, and fails with what was waited for rather than hang. */
export async function waitUntil(condition: () => boolean, what: string): Promise<void> {
  for (let tries = 0; tries < 4500; tries++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`Waited in vain for ${what}`);
}
