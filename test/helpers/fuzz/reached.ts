/**
 * What a fuzzer has led to within a broker in this process: requests that were handed to a session whole, limits that stood
 * in somebody's way, and times that ran out. Watches from outside, by what the broker's parts say to each other.
 */
import type { Limits } from "../../../lib/broker/quota.ts";
import { Quota } from "../../../lib/broker/quota.ts";
import { type Logger, SILENT } from "../../../lib/log.ts";
import { ServerConnection } from "../../../lib/protocol/connection.ts";
import { INTERFACES } from "../../../lib/protocol/shmlink-v1.gen.ts";

/** Each with what the log says of it. */
const TIMES: Readonly<Record<string, RegExp>> = {
  "no hello": /any longer for hello/,
  "half a message": /any longer for a message/,
  "a ring that is not mapped": /a ring was not mapped in time/,
};

export class Reached implements Disposable {
  readonly #seen: Set<string> = new Set();
  readonly #restore: (() => void)[] = [];
  readonly logger: Logger = { ...SILENT, warn: (message) => this.#hear(message) };

  constructor() {
    const seen = this.#seen;
    const { pump } = ServerConnection.prototype;
    ServerConnection.prototype.pump = function (onRequest, ...rest): ReturnType<typeof pump> {
      return pump.call(
        this,
        (message) => {
          seen.add(`${message.interface}.${message.request.kind}`);
          onRequest(message);
        },
        ...rest,
      );
    };
    const { charge } = Quota.prototype;
    Quota.prototype.charge = function (who, charged): string | undefined {
      const refusal = charge.call(this, who, charged);
      const limit = /limits\.(\w+) is/.exec(refusal ?? "")?.[1];
      if (limit !== undefined) seen.add(limit);
      return refusal;
    };
    this.#restore.push(() => {
      ServerConnection.prototype.pump = pump;
      Quota.prototype.charge = charge;
    });
  }

  #hear(message: string): void {
    for (const [name, pattern] of Object.entries(TIMES)) if (pattern.test(message)) this.#seen.add(name);
  }

  /** Of all that there is, what nothing has led to yet. */
  missing(limits: readonly (keyof Limits)[]): string[] {
    const requests = Object.values(INTERFACES).flatMap(({ name, requests }) =>
      requests.map((request) => `${name}.${request.name}`),
    );
    return [...requests, ...limits, ...Object.keys(TIMES)].filter((each) => !this.#seen.has(each));
  }

  [Symbol.dispose](): void {
    for (const restore of this.#restore) restore();
  }
}
