/** What channels need of the kernel. */
import { release } from "node:os";
import {
  addSeals,
  constants,
  fstat,
  ftruncate,
  getSeals,
  mapShared,
  memfdCreate,
  peerPidfd,
  SyscallError,
  socketpair,
} from "../../../ffi/mod.ts";
import { type Answer, no, type Probe, yes } from "./probe.ts";

const { F_SEAL_FUTURE_WRITE, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, SOCK_STREAM } = constants;
const OLDEST: readonly [number, number] = [5, 9];
const PAGE = 4096;
const EXECUTABLE = 0o111;

export const KERNEL_PROBES: readonly Probe[] = [
  { name: "kernel", essential: true, neededFor: "everything", ask: askVersion },
  { name: "sealed memfd", essential: true, neededFor: "channels that a peer cannot break", ask: askSeals },
  { name: "memfd never executable", neededFor: "rings that cannot be executed (Linux 6.3)", ask: askNoExec },
  { name: "pidfd of a peer", neededFor: "knowing a peer beyond reuse of its pid (Linux 6.5)", ask: askPeerPidfd },
];

function askVersion(): Answer {
  const version = release();
  const [major = 0, minor = 0] = version.split(".").map((part) => Number.parseInt(part, 10));
  const enough = major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1]);
  return enough ? yes(`Linux ${version}`) : no(`Linux ${version}; ${OLDEST.join(".")} or later is needed`);
}

/** As a channel does it: map, seal, and see that nobody can map it for writing any more. */
function askSeals(): Answer {
  using fd = memfdCreate("shmlink:doctor");
  ftruncate(fd, PAGE);
  using _own = mapShared(fd, PAGE, "read-write");
  addSeals(fd, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL);
  using _peer = mapShared(fd, PAGE, "read");
  try {
    mapShared(fd, PAGE, "read-write").close();
  } catch (error) {
    if (error instanceof SyscallError) return yes(`F_SEAL_FUTURE_WRITE holds (${error.code} for a second writer)`);
    throw error;
  }
  return no("a sealed memfd can still be mapped for writing; is this an emulated kernel?");
}

function askNoExec(): Answer {
  using fd = memfdCreate("shmlink:doctor");
  const F_SEAL_EXEC = 0x20; // linux/fcntl.h
  const hardened = (getSeals(fd) & F_SEAL_EXEC) !== 0 && (fstat(fd).mode & EXECUTABLE) === 0;
  return hardened ? yes("MFD_NOEXEC_SEAL") : no("no MFD_NOEXEC_SEAL; channels work without it");
}

function askPeerPidfd(): Answer {
  const [near, far] = socketpair(SOCK_STREAM);
  using _near = near;
  using _far = far;
  using pidfd = peerPidfd(near);
  return pidfd === null ? no("no SO_PEERPIDFD; the pid of SO_PEERCRED is used") : yes("SO_PEERPIDFD");
}
