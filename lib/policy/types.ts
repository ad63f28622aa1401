/** Who may do what. Values only; decide.ts judges, whoever asked acts. */

export const OPERATIONS = ["connect", "listen", "dial", "register", "resolve", "list"] as const;
export type Operation = (typeof OPERATIONS)[number];

/** "owner" is the user the broker runs as, and root; "any" is everybody; a number is a uid. */
export type Subject = "owner" | "any" | number;

export type Rule = {
  readonly name: string;
  readonly action: "allow" | "deny";
  readonly who: readonly Subject[];
  readonly what: readonly Operation[];
  /** Glob over the name of the service or listener: * any characters, ? one. connect and list name none: "". */
  readonly service: string;
};

/** The asking process, as the kernel knows it. */
export type Peer = { readonly uid: number; readonly brokerUid: number };

export type Request = { readonly what: Operation; readonly service: string };

/** `reason` reads on from "Cannot …: ". */
export type Decision =
  | { readonly kind: "allow"; readonly rule: string }
  | { readonly kind: "deny"; readonly rule: string; readonly reason: string };

/** What is wrong with a value, and where in its document. */
export type Problem = { readonly path: readonly (string | number)[]; readonly message: string };
