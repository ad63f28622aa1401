/** What is known of a descriptor, in the words of rules and listings. Names only: the broker's classify.ts finds out. */

export const FD_TYPES = [
  "unix-stream",
  "unix-dgram",
  "unix-seqpacket",
  "unix-listener",
  "tcp",
  "tcp-listener",
  "udp",
  "socket",
  "pipe",
  "memfd",
  "file",
  "eventfd",
  "pidfd",
  "dma-buf",
  "namespace",
  "directory",
  "device",
  "other",
] as const;
export type FdType = (typeof FD_TYPES)[number];

export const FAMILIES = ["unix", "inet", "inet6", "netlink", "other"] as const;
export type Family = (typeof FAMILIES)[number];

export const ACCESSES = ["read", "write", "read-write", "none"] as const;
export type Access = (typeof ACCESSES)[number];

export const SEALS = ["seal", "shrink", "grow", "write", "future-write"] as const;
export type Seal = (typeof SEALS)[number];

/** One descriptor. What is missing it has not. */
export type FdFacts = {
  readonly type: FdType;
  /** Of sockets. */
  readonly family?: Family;
  readonly access?: Access;
  /** Of memfds, files and dma-bufs. */
  readonly sizeBytes?: number;
  /** Of memfds. */
  readonly seals?: readonly Seal[];
  /** Of dma-bufs: the driver that made it. */
  readonly exporter?: string;
};
