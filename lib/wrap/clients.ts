/**
 * Who is connected to a handed-off listener, found out only when somebody asks: the kernel lists the sockets, and /proc
 * says who has them open. SO_PEERCRED would name the supervisor that made a wrapped client's connection, and a record
 * kept for each connection would cost every connection what hardly any is asked for.
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { listUnixSockets, type UnixSocket } from "../../ffi/mod.ts";
import { executableOf, processIdentity } from "../transport/peer.ts";
import { formatHost } from "./host.ts";
import { type ListenerName, parseConnectionName, remoteOf } from "./names.ts";
import { strangerPort } from "./socket.ts";

export type Client = {
  /** As the server sees it. */
  readonly address: string;
  readonly port: number;
  /** "unix" for one that came to the path by itself. */
  readonly via: "wrap" | "unix";
  /** Of the process that has the connection, the one that started first; null where we may not see who that is. */
  readonly pid: number | null;
  readonly uid: number | null;
  readonly exe: string;
};

/** How many there are, and the newest of them. */
export type Clients = { readonly open: number; readonly newest: readonly Client[] };

const MAX_CLIENTS = 32;

/** @param path  of the Unix listener @param name  what it stands for
 *  @throws SyscallError where the kernel lists no sockets (CONFIG_UNIX_DIAG) */
export function clientsOf(path: string, name: ListenerName): Clients {
  const sockets = listUnixSockets();
  const file = statSync(path, { bigint: true, throwIfNoEntry: false });
  const inode = file === undefined ? undefined : Number(file.ino & 0xffffffffn);
  const accepted = sockets.filter((socket) => socket.peer !== undefined && isOf(socket, path, inode)); // not closed there
  const newest = accepted.sort((a, b) => b.inode - a.inode).slice(0, MAX_CLIENTS);
  const peers = new Set(newest.map(({ peer = 0 }) => peer));
  const ends = new Map(sockets.filter((socket) => peers.has(socket.inode)).map((socket) => [socket.inode, socket]));
  const holders = peers.size === 0 ? new Map<number, number>() : findHolders(peers);
  return {
    open: accepted.length,
    newest: newest.map((socket) => {
      const { peer = 0 } = socket;
      return describe(name, socket, ends.get(peer), holders.get(peer));
    }),
  };
}

/** A socket that a rule moved elsewhere still has the name that it was made with: then the file tells. */
function isOf({ name, fileInode }: UnixSocket, path: string, inode: number | undefined): boolean {
  return name === path || (fileInode !== undefined && fileInode === inode && name.endsWith(".tcp"));
}

function describe(
  name: ListenerName,
  socket: UnixSocket,
  end: UnixSocket | undefined,
  pid: number | undefined,
): Client {
  const peerName = end?.name ?? "";
  const { host, port } = remoteOf(name, peerName, () => strangerPort(socket.cookie));
  return {
    address: formatHost(host),
    port,
    via: parseConnectionName(peerName) === undefined ? "unix" : "wrap",
    pid: pid ?? null,
    uid: (pid === undefined ? undefined : processIdentity(pid)?.uid) ?? end?.uid ?? null,
    exe: pid === undefined ? "" : executableOf(pid),
  };
}

/** Who has those sockets open; of several (fork), who started first. */
function findHolders(inodes: ReadonlySet<number>): Map<number, number> {
  const holders = new Map<number, number>();
  for (const pid of list("/proc").filter((name) => /^\d+$/.test(name))) {
    for (const inode of heldBy(pid, inodes)) {
      const other = holders.get(inode);
      if (other === undefined || startOf(Number(pid)) < startOf(other)) holders.set(inode, Number(pid));
    }
  }
  return holders;
}

const SOCKET_LINK = /^socket:\[(\d+)\]$/;

function heldBy(pid: string, inodes: ReadonlySet<number>): Set<number> {
  const held = new Set<number>();
  for (const fd of list(`/proc/${pid}/fd`)) {
    const inode = Number(SOCKET_LINK.exec(linkOf(`/proc/${pid}/fd/${fd}`))?.[1]);
    if (inodes.has(inode)) held.add(inode);
  }
  return held;
}

/** In ticks since the machine started: field 22 of proc_pid_stat(5), the 20th after the name. */
function startOf(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]);
  } catch {
    return Number.POSITIVE_INFINITY; // it has ended
  }
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // another user's, or gone
  }
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}
