/** A connection to the broker for who hands authority on: connections with fewer rights, sockets with an identity. */
import { duplicateFd } from "../../ffi/mod.ts";
import { FailureError } from "../errors.ts";
import { CONTEXT_WORD_RULE, isContextWord, quoteWord } from "../util/context-word.ts";
import { checkFd, checkGrants, checkString } from "./arguments.ts";
import { failureOf } from "./failure.ts";
import { type ContextOptions, type GrantSpec, Minted, rightsBits } from "./grant.ts";
import { RenewedLink } from "./renewed-link.ts";

export abstract class RightsLink extends RenewedLink {
  /** Makes a connection that has these rights and no other; its descriptor is to be handed to whom it is for.
   *  @throws FailureError "denied" for more than this connection may pass on, "invalid", "quota" */
  mint(grants: readonly GrantSpec[]): Minted {
    checkGrants(grants);
    return this.ask(() => this.#mint(grants));
  }

  #mint(grants: readonly GrantSpec[]): Minted {
    const { generation } = this;
    const id = this.connection.newObject("shmlink_grant_v1");
    const minted = new Minted({
      revoke: (rights, name) => {
        checkString(name, "a name to revoke");
        if (generation !== this.generation) return; // what was granted has ended with that broker
        this.connection.request(id, "shmlink_grant_v1", { kind: "revoke", rights, name });
        this.sync();
      },
      forget: () => this.forget(id, "shmlink_grant_v1", generation),
    });
    this.sinks.set(id, (message) => minted.handle(message));
    this.request({ kind: "mint", id });
    for (const { rights, name } of grants)
      this.connection.request(id, "shmlink_grant_v1", { kind: "add", rights: rightsBits(rights), name });
    this.connection.request(id, "shmlink_grant_v1", { kind: "connect" });
    this.answer(() => minted.settled, "the broker to make a connection");
    if (minted.failure === undefined) return minted;
    minted.close();
    throw minted.failure;
  }

  /** Gives a listening socket an identity, until the other end of `closeFd` is closed. Both are lent.
   *  @throws FailureError "denied" within a context, or by the policy; "quota"  @returns its id in listings */
  createContext(options: ContextOptions): number {
    const { engine, app, instance } = options;
    for (const [key, word] of Object.entries({ engine, app, instance })) {
      checkString(word, key);
      if (!isContextWord(word))
        throw new FailureError("invalid", `Cannot use ${key} ${quoteWord(word)}: ${CONTEXT_WORD_RULE}`);
    }
    for (const fd of [options.listener, options.closeFd]) checkFd(fd);
    return this.ask(() => this.#createContext(options));
  }

  #createContext(options: ContextOptions): number {
    const id = this.connection.newObject("shmlink_context_v1");
    let outcome: number | FailureError | undefined;
    this.sinks.set(id, ({ event }) => {
      if (event.kind === "registered" && "contextId" in event) outcome = event.contextId;
      else if (event.kind === "failed") outcome = failureOf(event.code, event.message);
    });
    const { engine, app, instance } = options;
    const [listenFd, closeFd] = [duplicateFd(options.listener), duplicateFd(options.closeFd)];
    this.request({ kind: "create_context", id, listenFd, closeFd, engine, app, instance });
    this.answer(() => outcome !== undefined, "the broker to create a context");
    this.forget(id, "shmlink_context_v1", this.generation);
    if (typeof outcome !== "number") throw outcome ?? new Error("A context was neither made nor refused");
    return outcome;
  }
}
