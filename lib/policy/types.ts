/** Who may do what. Values only; decide.ts judges, whoever asked acts. */
import type { Access, Family, FdFacts, Seal } from "./fd-facts.ts";

export const OPERATIONS = [
  "connect",
  "listen",
  "dial",
  "register",
  "resolve",
  "list",
  "offer",
  "take",
  "delegate",
  "context",
] as const;
export type Operation = (typeof OPERATIONS)[number];

/** "owner" is the user the broker runs as, and root, outside of contexts; "same" is the user who offers what is asked
 *  for; "any" is everybody; a number is a uid. */
export type Subject = "owner" | "same" | "any" | number;

/** What a rule speaks of, keyed as in the file. A key that is missing is no condition; the values of one are
 *  alternatives, but all seals have to be there; texts are globs (* any characters, ? one). */
export type Criteria = {
  readonly uid?: readonly Subject[];
  readonly gid?: readonly number[];
  readonly exe?: readonly string[];
  readonly unit?: readonly string[];
  readonly cgroup?: readonly string[];
  readonly engine?: readonly string[];
  readonly app?: readonly string[];
  readonly instance?: readonly string[];
  readonly action?: readonly Operation[];
  readonly service?: readonly string[];
  readonly fd?: readonly string[];
  readonly family?: readonly Family[];
  readonly access?: readonly Access[];
  readonly seals?: readonly Seal[];
  readonly minSizeBytes?: number;
  readonly maxSizeBytes?: number;
  readonly exporter?: readonly string[];
};

export type Rule = {
  readonly name: string;
  readonly effect: "allow" | "deny";
  /** "file:line", or "built in". */
  readonly where: string;
  readonly criteria: Criteria;
};

/** The identity of a context: what made it, for what, and which one of several. */
export type ContextIdentity = { readonly engine: string; readonly app: string; readonly instance: string };

/** The asking process, as the kernel knows it; "" is what it would not tell. */
export type Peer = {
  readonly uid: number;
  /** Null for nobody who is really there: who asks "what if" does not know it. It is none that a rule names. */
  readonly gid: number | null;
  /** Supplementary groups. */
  readonly groups: readonly number[];
  readonly exe: string;
  readonly cgroup: string;
  /** Undefined for who came through the broker's own socket. */
  readonly context: ContextIdentity | undefined;
  readonly brokerUid: number;
};

export type Request = {
  readonly what: Operation;
  /** "" where none is named. */
  readonly service: string;
  /** The descriptors that are to change hands. */
  readonly fds?: readonly FdFacts[];
  /** Who offers what is asked for. */
  readonly target?: { readonly uid: number; readonly context: ContextIdentity | undefined };
};

/** `reason` reads on from "Cannot …: ". */
export type Decision =
  | { readonly kind: "allow"; readonly rule: string; readonly where: string }
  | { readonly kind: "deny"; readonly rule: string; readonly where: string; readonly reason: string };

/** What is wrong with a value, and where in its document. */
export type Problem = { readonly path: readonly (string | number)[]; readonly message: string };
