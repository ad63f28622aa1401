/** Both ends of a connection to the broker, and the messages that go over it. Re-exports only. */
export { ClientConnection } from "./client-connection.ts";
export type { AnyEvent, AnyRequest } from "./messages.ts";
export { ServerConnection } from "./server-connection.ts";
