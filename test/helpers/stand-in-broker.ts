/** A broker for one client, that welcomes it and answers the rest as a test wants. */
import { accept, type BorrowedFd, constants, type OwnedFd, pollOne } from "../../ffi/mod.ts";
import { PeerDoorbell } from "../../lib/broker/peer-doorbell.ts";
import { type AnyRequest, ServerConnection } from "../../lib/protocol/connection.ts";
import { UnixTransport } from "../../lib/transport/unix.ts";
import { waitUntil } from "./broker.ts";

type Answer = (message: AnyRequest<OwnedFd>) => void;

export class StandInBroker implements Disposable {
  readonly #server: ServerConnection;
  readonly #answer: Answer;
  #doorbell: PeerDoorbell | undefined;
  /** Nothing is said any more. */
  isSilent = false;
  readonly send: ServerConnection["send"];

  /** @param connection  taken */
  constructor(connection: OwnedFd, answer: Answer) {
    this.#server = new ServerConnection(new UnixTransport(connection));
    this.#answer = answer;
    this.send = this.#server.send.bind(this.#server);
  }

  /** The one that the next to connect gets. @param listener  lent */
  static async at(listener: BorrowedFd, answer: Answer): Promise<StandInBroker> {
    await waitUntil(() => pollOne(listener, constants.EPOLLIN, 0) !== 0, "somebody to connect");
    const client = accept(listener);
    if (client === null) throw new Error("Nobody has connected");
    return new StandInBroker(client.fd, answer);
  }

  /** Goes on until the client ends, or nothing is said any more. */
  async serve(): Promise<void> {
    await waitUntil(() => this.#step() === "ended" || this.isSilent, "the end of the client");
  }

  #step(): "open" | "more" | "ended" {
    const state = this.#server.pump((request) => this.#hear(request));
    if (!this.isSilent) this.#server.flush();
    this.#doorbell?.ring();
    return state;
  }

  #hear(message: AnyRequest<OwnedFd>): void {
    const { object, request } = message;
    if (request.kind !== "hello") return this.#answer(message);
    this.#doorbell = new PeerDoorbell(request.doorbell);
    const welcome = { kind: "welcome", version: "0", uid: process.getuid?.() ?? 0, maxCapacity: 1 << 20 } as const;
    this.send(object, "shmlink_manager_v1", welcome);
  }

  [Symbol.dispose](): void {
    this.#doorbell?.[Symbol.dispose]();
    this.#server[Symbol.dispose]();
  }
}
