/** shmlink_context_v1: listening sockets with an identity of their own. */
import { isSameFile, type OwnedFd, SyscallError } from "../../../ffi/mod.ts";
import { FailureError } from "../../errors.ts";
import type { Requests } from "../../protocol/shmlink-v1.gen.ts";
import { CONTEXT_WORD_RULE, contextName, isContextWord, quoteWord } from "../../util/context-word.ts";
import { classifyFd, hangsUp } from "../classify.ts";
import { authorize, type BrokerCore, chargeQuota, denied, wishOf } from "../core.ts";
import { explainRefusal } from "../exhaustion.ts";
import { isConnectionTo } from "../own-sockets.ts";
import { accountKey } from "../quota.ts";
import type { ContextRecord } from "../records.ts";
import type { Session } from "../session.ts";
import { invalidArgument } from "./checks.ts";

type Create = Extract<Requests<OwnedFd>["shmlink_manager_v1"], { kind: "create_context" }>;

/** @throws FailureError denied, quota, refused; ProtocolError for what can never be valid. The descriptors are closed by
 *  the connection when it throws. */
export function createContext(session: Session, request: Create): void {
  const { core, owner } = session;
  const { listenFd, closeFd, engine, app, instance } = request;
  const identity = { engine, app, instance };
  for (const [key, value] of Object.entries(identity))
    if (!isContextWord(value)) throw invalidArgument(`Invalid ${key} ${quoteWord(value)}: ${CONTEXT_WORD_RULE}`);
  const name = contextName(identity);
  if (owner.context !== undefined) {
    closeBoth(listenFd, closeFd);
    throw denied(core, owner, `create context "${name}" from within a context`, "there is no nesting, make it outside");
  }
  const known = sameContext(session, name, listenFd);
  if (known !== undefined) {
    closeBoth(listenFd, closeFd);
    return session.send(request.id, "shmlink_context_v1", { kind: "registered", contextId: known.id });
  }
  const why = whyNotOn(core, listenFd, closeFd);
  if (why !== undefined) {
    closeBoth(listenFd, closeFd);
    throw denied(core, owner, `create context "${name}"`, why);
  }
  const charge = { contexts: 1 };
  let rule: string;
  try {
    rule = authorize(core, owner, "context", name);
    chargeQuota(core, owner, wishOf("context", name), charge);
  } catch (error) {
    closeBoth(listenFd, closeFd);
    throw error;
  }
  const record: ContextRecord = {
    kind: "context",
    id: core.registry.nextId(),
    name,
    identity,
    rule,
    owner,
    listener: listenFd,
    closeFd,
    accepted: 0,
  };
  try {
    core.serveContext(record);
  } catch (error) {
    core.quota.release(owner, charge);
    closeBoth(listenFd, closeFd);
    if (!(error instanceof SyscallError)) throw error;
    throw new FailureError("exhausted", `Cannot create context "${name}": ${explainRefusal(error)}`, { cause: error });
  }
  core.survival.keepContext(record);
  session.send(request.id, "shmlink_context_v1", { kind: "registered", contextId: record.id });
}

/** The context of an earlier broker that its maker, who does not know that it is still there, makes again. */
function sameContext({ core, owner }: Session, name: string, listener: OwnedFd): ContextRecord | undefined {
  for (const record of core.registry.contexts.values())
    if (record.name === name && accountKey(record.owner) === accountKey(owner))
      if (isSameFile(record.listener, process.pid, listener.number)) return record;
  return undefined;
}

/** @throws ProtocolError for what can never be valid */
function whyNotOn(core: BrokerCore, listenFd: OwnedFd, closeFd: OwnedFd): string | undefined {
  if (classifyFd(listenFd).type !== "unix-listener")
    throw invalidArgument("Invalid listen_fd: a listening Unix stream socket is wanted");
  if (!hangsUp(closeFd))
    throw invalidArgument("Invalid close_fd: a pipe or a socket is wanted, whose other end hangs up");
  if (core.ownSockets.has(listenFd) || core.ownSockets.has(closeFd)) return "it would be on a socket of the broker";
  // Whoever is let in through this one and is at the same time what a context waits for would keep both for ever.
  const waitedFor = [closeFd, ...[...core.registry.contexts.values()].map((record) => record.closeFd)];
  const isWaitedFor = waitedFor.some((fd) => isConnectionTo(fd, listenFd));
  return isWaitedFor ? "it would be one that waits for a connection to itself" : undefined;
}

/** A refusal is answered, so the connection does not close the descriptors. */
function closeBoth(listenFd: OwnedFd, closeFd: OwnedFd): void {
  listenFd.close();
  closeFd.close();
}
