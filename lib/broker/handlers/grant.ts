/** shmlink_grant_v1: connections with less authority than the one that makes them, and taking it away again. */
import { constants, type OwnedFd, SyscallError, socketpair } from "../../../ffi/mod.ts";
import { FailureError } from "../../errors.ts";
import { type Requests, SHMLINK_MANAGER_V1_RIGHTS } from "../../protocol/shmlink-v1.gen.ts";
import { assertNever } from "../../util/assert-never.ts";
import type { ObjectId } from "../../util/brand.ts";
import { isGrantPattern, MAX_GRANTS } from "../../util/grant-pattern.ts";
import { isFull, unread } from "../backlog.ts";
import { authorize, chargeQuota, denied, failureNumber, wishOf } from "../core.ts";
import { explainRefusal } from "../exhaustion.ts";
import { describeGrant, type Grant, GrantSet, MAX_DEPTH, MAX_IN_LINE } from "../grants.ts";
import type { Handle } from "../handles.ts";
import { eachInTurns } from "../in-turns.ts";
import { keepOutOfBandInLine } from "../out-of-band.ts";
import { listenerName } from "../registry.ts";
import type { Session } from "../session.ts";
import { stands } from "../standing.ts";
import { whoIs } from "../who.ts";
import { checkBits, invalidArgument } from "./checks.ts";

type GrantRequest = Requests<OwnedFd>["shmlink_grant_v1"];
type GrantHandle = Extract<Handle, { kind: "grant" }>;

const TOO_DEEP = `this one is the ${MAX_DEPTH}th of a line of minted connections, and the last that there may be`;

const TOO_MANY = `with those that it was minted from it would have more than ${MAX_IN_LINE} grants`;

export function mint(session: Session, object: ObjectId): void {
  session.handles.set(object, { kind: "grant", grants: new GrantSet(session.owner.grants), state: "new" });
}

export function handleGrant(session: Session, object: ObjectId, request: GrantRequest): void {
  const handle = session.handles.get(object);
  if (request.kind === "destroy") return session.release(object);
  if (handle?.kind !== "grant") return;
  switch (request.kind) {
    case "add":
      return add(handle, request);
    case "connect":
      return connect(session, object, handle);
    case "revoke":
      return revoke(session, handle, request);
    default:
      return assertNever(request);
  }
}

function add(handle: GrantHandle, { rights, name }: Grant): void {
  if (!isGrantPattern(name)) throw invalidArgument(`Invalid name pattern ${JSON.stringify(name.slice(0, 140))}`);
  checkBits("rights", rights, SHMLINK_MANAGER_V1_RIGHTS);
  if (rights === 0) throw invalidArgument("Invalid rights 0: at least one is wanted");
  if (handle.state === "connected") throw invalidArgument("Rights were added to a connection that is made already");
  if (handle.grants.grants.length >= MAX_GRANTS) throw invalidArgument(`Too many grants: ${MAX_GRANTS} is the most`);
  if (!handle.grants.add({ rights, name })) handle.state = "refused";
}

function connect(session: Session, object: ObjectId, handle: GrantHandle): void {
  try {
    const fd = makeConnection(session, handle);
    session.send(object, "shmlink_grant_v1", { kind: "connection", fd });
  } catch (error) {
    if (!(error instanceof FailureError)) throw error;
    const { code, message } = error;
    session.send(object, "shmlink_grant_v1", { kind: "failed", code: failureNumber(code), message });
  }
}

function makeConnection(session: Session, handle: GrantHandle): OwnedFd {
  const { core, owner } = session;
  if (handle.state === "connected") throw new FailureError("refused", "Cannot mint a connection twice from one grant");
  if (handle.state === "refused")
    throw denied(core, owner, "mint a connection", "it would have rights that this one cannot pass on");
  if (handle.grants.depth > MAX_DEPTH) throw denied(core, owner, "mint a connection", TOO_DEEP);
  if (handle.grants.inLine > MAX_IN_LINE) throw denied(core, owner, "mint a connection", TOO_MANY);
  const rule = authorize(core, owner, "delegate", "");
  if (isFull(session, 1)) throw new FailureError("quota", unread(session, "mint a connection"));
  chargeQuota(core, owner, "mint a connection", { sessions: 1 });
  try {
    using stack = new DisposableStack();
    const [ours, theirs] = socketpair(constants.SOCK_STREAM | constants.SOCK_NONBLOCK);
    for (const fd of [ours, theirs]) stack.use(fd);
    keepOutOfBandInLine(ours);
    const minted = core.startSession(core.closer.guardConnection(ours, owner), { ...owner, grants: handle.grants });
    stack.move();
    minted.trackOwnSocket(theirs);
    handle.state = "connected";
    note(minted, rule, owner.grants?.connection);
    const what = handle.grants.grants.map(describeGrant).join(" ") || "nothing";
    core.logger.info(`Granted ${what}`, { ...whoIs(owner), minted: handle.grants.connection });
    return theirs;
  } catch (error) {
    core.quota.release(owner, { sessions: 1 });
    if (!(error instanceof SyscallError)) throw error;
    throw new FailureError("exhausted", `Cannot mint a connection: ${explainRefusal(error)}`, { cause: error });
  }
}

/** For listings. */
function note(session: Session, rule: string, mintedFrom: number | undefined): void {
  const { registry } = session.core;
  const id = registry.nextId();
  if (session.owner.grants !== undefined) session.owner.grants.connection = id;
  registry.connections.set(session, { kind: "connection", id, name: `connection:${id}`, rule, session, mintedFrom });
}

function revoke(session: Session, handle: GrantHandle, { rights, name }: Grant): void {
  checkBits("rights", rights, SHMLINK_MANAGER_V1_RIGHTS);
  const { core } = session;
  const gone = handle.grants.revoke(rights, name);
  for (const each of gone)
    core.logger.info(`Revoked ${describeGrant(each)}`, { ...whoIs(session.owner), minted: handle.grants.connection });
  if (gone.length === 0) return;
  const holders = [...core.sessions()].filter((holder) => holder.owner.grants?.descendsFrom(handle.grants) === true);
  const stakes = holders.flatMap((holder) => tell(holder, gone));
  eachInTurns(core, session.owner, stakes, { act: withdraw });
}

/** Something that a holder has for as long as he has the right to it. */
type HeldStake = {
  readonly holder: Session;
  readonly object: ObjectId;
  readonly handle: Handle;
  readonly stake: Stake;
};

/** Says what is gone. @returns what may have stood for it */
function tell(holder: Session, gone: readonly Grant[]): HeldStake[] {
  const { manager, handles } = holder;
  if (manager === undefined) return []; // before hello it has nothing, and nothing to hear it with
  for (const { rights, name } of gone) holder.send(manager, "shmlink_manager_v1", { kind: "revoked", rights, name });
  return [...handles].flatMap(([object, handle]) => {
    const stake = stakeOf(handle);
    return stake === undefined ? [] : { holder, object, handle, stake };
  });
}

/** Ends what stood for a right that is gone: offered names and listeners, and waiting for something to take. */
function withdraw({ holder, object, handle, stake }: HeldStake): void {
  if (holder.handles.get(object) !== handle || stands(handle, holder.owner, stake.right, stake.name)) return;
  holder.release(object);
  const message = `Cannot ${wishOf(stake.right, stake.name)} any longer: the right was revoked`;
  holder.send(object, stake.on, { kind: "failed", code: failureNumber("denied"), message });
}

/** The right that something needs for as long as it is there, and the kind of its object. */
type Stake = {
  readonly right: "listen" | "offer" | "take";
  readonly name: string;
  readonly on: "shmlink_service_v1" | "shmlink_listener_v1" | "shmlink_offer_v1" | "shmlink_delivery_v1";
};

function stakeOf(handle: Handle): Stake | undefined {
  switch (handle.kind) {
    case "service":
      return { right: "listen", name: handle.name, on: "shmlink_service_v1" };
    case "listener":
      return { right: "listen", name: listenerName(handle.address, handle.port), on: "shmlink_listener_v1" };
    case "relayed":
      return { right: "offer", name: handle.name, on: "shmlink_offer_v1" };
    case "take":
      return { right: "take", name: handle.name, on: "shmlink_delivery_v1" };
    case "grant":
    case "side":
      return undefined;
    default:
      return assertNever(handle);
  }
}
