/** shmlink_listener_v1 and shmlink_resolution_v1: wrapped TCP listeners and who asks for them. */
import { networkInterfaces } from "node:os";
import { constants, describeErrno, fstat, getSeals, mapShared, type OwnedFd, SyscallError } from "../../../ffi/mod.ts";
import { mostStored } from "../../channel/stored.ts";
import { FailureError } from "../../errors.ts";
import { type Requests, SHMLINK_MANAGER_V1_LISTENER_FLAGS } from "../../protocol/shmlink-v1.gen.ts";
import { executableOf } from "../../transport/peer.ts";
import { isFallbackReason } from "../../util/fallback-reason.ts";
import { plainAddress } from "../../util/ip-address.ts";
import { type Judgement, judgeClaim } from "../claimed-process.ts";
import { authorize, type BrokerCore, chargeQuota, wishOf } from "../core.ts";
import { explainRefusal } from "../exhaustion.ts";
import { plainText } from "../plain-text.ts";
import type { ListenerRecord, Owner } from "../records.ts";
import { listenerName } from "../registry.ts";
import { backingOf } from "../rights.ts";
import type { Session } from "../session.ts";
import { stands } from "../standing.ts";
import { whoIs } from "../who.ts";
import { checkAddress, checkBits, checkPort, invalidArgument } from "./checks.ts";

type Manager = Requests<OwnedFd>["shmlink_manager_v1"];
type Register = Extract<Manager, { kind: "register_listener" }>;
type Resolve = Extract<Manager, { kind: "resolve" }>;
type Fallback = Extract<Manager, { kind: "report_fallback" }>;

const COUNTERS_BYTES = 4096;
const COUNTERS_SEALS = constants.F_SEAL_SHRINK | constants.F_SEAL_GROW;
/** What looking into a process counts for, in messages. */
const CLAIM_COST = 50;
const MAX_REASONS = 16;
const OTHER = "other";

/** Maps the counters read-only. One seal makes sure that reading them can never fault; the other one that there is no more in
 *  the file than a page: who is the last to unmap it gives all of that back, and waits for it.
 *  @throws ProtocolError when the descriptor cannot carry them */
function mapCounters(fd: OwnedFd): ListenerRecord["counters"] {
  try {
    const isSealed = (getSeals(fd) & COUNTERS_SEALS) === COUNTERS_SEALS;
    const { sizeBytes, storedBytes } = fstat(fd);
    if (isSealed && sizeBytes === COUNTERS_BYTES && storedBytes <= mostStored(sizeBytes))
      return mapShared(fd, COUNTERS_BYTES, "read");
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    throw invalidArgument(`Invalid counters: ${error.message}`);
  }
  throw invalidArgument(
    `Invalid counters: a memfd of ${COUNTERS_BYTES} bytes with F_SEAL_SHRINK and F_SEAL_GROW is needed`,
  );
}

/** @throws FailureError name-in-use, denied, quota, exhausted; ProtocolError */
export function registerListener(session: Session, request: Register): void {
  const { core, owner } = session;
  const { port, path, flags, counters: fd } = request;
  using _owned = fd;
  checkPort(port);
  checkAddress(request.address);
  checkBits("flags", flags, SHMLINK_MANAGER_V1_LISTENER_FLAGS);
  if (!path.startsWith("/") || plainText(path, 128) !== path || new TextEncoder().encode(path).length > 107)
    throw invalidArgument(`Invalid socket path ${JSON.stringify(path)}`);
  const address = plainAddress(request.address);
  const name = listenerName(address, port);
  const rule = authorize(core, owner, "register", name);
  const process = listeningProcess(session, request.pid, name);
  const holder = core.registry.findListener(address, port);
  if (holder !== undefined)
    throw new FailureError("name-in-use", `Cannot register ${name}: process ${holder.owner.pid} has it`);
  const counters = mapCounters(fd);
  try {
    chargeQuota(core, owner, wishOf("register", name), { listeners: 1 });
  } catch (error) {
    counters.close();
    throw error;
  }
  const record: ListenerRecord = {
    kind: "listener",
    id: core.registry.nextId(),
    address,
    port,
    path,
    v6only: (flags & SHMLINK_MANAGER_V1_LISTENER_FLAGS.v6only) !== 0,
    noTcp: (flags & SHMLINK_MANAGER_V1_LISTENER_FLAGS.no_tcp) !== 0,
    rule,
    rights: backingOf(owner, ["listen"], name),
    owner: { ...owner, ...process },
    counters,
    session,
    object: request.id,
    fallbacks: new Map(),
  };
  core.registry.addListener(record);
  session.handles.set(request.id, record);
  session.send(request.id, "shmlink_listener_v1", { kind: "registered", listenerId: record.id });
}

/** Where nothing can be said of the process that is claimed to listen, it is the client that answers for it.
 *  @throws ProtocolError when it is somebody else's; FailureError "exhausted" */
function listeningProcess(
  session: Session,
  claimed: number,
  name: string,
): { readonly pid: number; readonly exe: string } {
  const { owner, core } = session;
  const { pid, exe, grants } = owner;
  if (claimed === 0 || claimed === pid) return { pid, exe };
  session.countAs(CLAIM_COST);
  const judgement = judgeOr(owner, claimed, name);
  if (judgement.kind === "own") return { pid: judgement.pid, exe: executableOf(judgement.pid) };
  // Who holds a minted connection is not known, only who minted it.
  if (judgement.kind === "unknown" || grants !== undefined) return { pid, exe };
  core.logger.warn(`Refused to register a listener of process ${claimed}: ${judgement.why}`, whoIs(owner));
  throw invalidArgument(`Invalid pid ${claimed}: ${judgement.why}`);
}

function judgeOr(owner: Owner, claimed: number, name: string): Judgement {
  try {
    return judgeClaim(owner, claimed);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    throw new FailureError("exhausted", `Cannot register ${name}: ${explainRefusal(error)}`, { cause: error });
  }
}

export function removeListener(core: BrokerCore, record: ListenerRecord): void {
  core.registry.removeListener(record);
  record.counters.close();
  core.quota.release(record.session.owner, { listeners: 1 });
}

/** False where it cannot be known, for want of a descriptor, say: the client goes over TCP, which is never wrong. */
function isLocalAddress(address: string): boolean {
  try {
    return Object.values(networkInterfaces()).some((list) => list?.some((entry) => entry.address === address) === true);
  } catch {
    return false; // getifaddrs(3) failed; it says no more
  }
}

export function resolve(session: Session, request: Resolve): void {
  const { core } = session;
  const found = core.registry.resolve(request.address, request.port, isLocalAddress);
  const answer =
    found === undefined || !mayResolve(session, found)
      ? ({ kind: "none" } as const)
      : ({ kind: "found", path: found.path, listenerId: found.id } as const);
  session.send(request.id, "shmlink_resolution_v1", answer);
}

/** A listener that the policy hides is like one that is not there: the client goes over TCP, and has nothing to say of it. */
function mayResolve(session: Session, found: ListenerRecord): boolean {
  const name = listenerName(found.address, found.port);
  if (!stands(found, found.session.owner, "listen", name)) return false;
  try {
    authorize(session.core, session.owner, "resolve", name);
    return true;
  } catch (error) {
    if (error instanceof FailureError) return false;
    throw error;
  }
}

export function reportFallback(session: Session, request: Fallback): void {
  const found = session.core.registry.resolve(request.address, request.port, isLocalAddress);
  if (found === undefined || !mayResolve(session, found)) return;
  const text = knownReason(request.reason);
  const hasRoom = found.fallbacks.has(text) || found.fallbacks.size < MAX_REASONS;
  const reason = hasRoom ? text : OTHER;
  found.fallbacks.set(reason, (found.fallbacks.get(reason) ?? 0) + 1);
}

/** Who looks at the listener reads it: in our own words, so that no client has a line for what it likes to say. */
function knownReason(text: string): string {
  if (isFallbackReason(text)) return text;
  const code = /\((E[A-Z0-9]+)\)$/.exec(text)?.[1]; // of a SyscallError
  return (code === undefined ? undefined : describeErrno(code)) ?? OTHER;
}
