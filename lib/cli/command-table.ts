/** All commands. Loaded one at a time: `ls` should not pay for what `wrap` needs. */
import type { CommandTable } from "./main.ts";

export const COMMANDS: CommandTable = {
  ls: {
    summary: "list services, channels and wrapped listeners",
    load: async () => (await import("./commands/ls.ts")).command,
  },
  inspect: {
    summary: "show all there is to know about one of them",
    load: async () => (await import("./commands/inspect.ts")).command,
  },
  listen: {
    summary: "offer a name; connect who dials it to stdin and stdout",
    load: async () => (await import("./commands/listen.ts")).command,
  },
  dial: {
    summary: "open a channel to a name, on stdin and stdout",
    load: async () => (await import("./commands/dial.ts")).command,
  },
  offer: {
    summary: "pass descriptors on: open ones, listeners, or connections as they come",
    load: async () => (await import("./commands/offer.ts")).command,
  },
  take: {
    summary: "run a program on descriptors that somebody offers",
    load: async () => (await import("./commands/take.ts")).command,
  },
  run: {
    summary: "run a program with exactly the rights that are granted to it",
    load: async () => (await import("./commands/run.ts")).command,
  },
  context: {
    summary: "make a listening socket with an identity, for a container",
    load: async () => (await import("./commands/context.ts")).command,
  },
  wrap: {
    summary: "run a program with its TCP sockets handed off as Unix sockets",
    load: async () => (await import("./commands/wrap.ts")).command,
  },
  broker: {
    summary: "run the broker in the foreground",
    load: async () => (await import("./commands/broker.ts")).command,
  },
  doctor: {
    summary: "say what this kernel, user and runtime can do",
    load: async () => (await import("./commands/doctor.ts")).command,
  },
  config: {
    summary: "check the configuration, or show the one in force",
    load: async () => (await import("./commands/config.ts")).command,
  },
  install: {
    summary: "put the systemd units in place",
    load: async () => (await import("./commands/install.ts")).command,
  },
  demo: {
    summary: "show all of it on real data, in under a minute",
    load: async () => (await import("./commands/demo.ts")).command,
  },
  hold: {
    summary: "hold descriptors for a broker",
    load: async () => (await import("./hold.ts")).command,
    isInternal: true,
  },
};
