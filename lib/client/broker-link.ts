/** A connection to the broker for who offers and dials services. Channels that are whole do not need it any more. */
import { checkListenOptions } from "../channel/options.ts";
import type { ObjectId } from "../util/brand.ts";
import { checkName } from "./arguments.ts";
import type { Approached } from "./broker-query.ts";
import { ChannelLink, type ListenOptions } from "./channel-link.ts";
import { type ConnectOptions, connectWith } from "./connect.ts";
import { Service } from "./service.ts";

export type { DialOptions, ListenOptions } from "./channel-link.ts";
export type { ConnectOptions } from "./connect.ts";
export type { Entry } from "./entry.ts";
export type { TakeOptions } from "./relay-link.ts";

export class BrokerLink extends ChannelLink {
  readonly #services: Set<Service> = new Set();

  /** Connects, starts a broker if there is none, and says hello. Blocks until the broker has answered.
   *  @throws FailureError "no-broker": none answers and none could be started */
  static override connect(options: ConnectOptions): BrokerLink {
    return connectWith(options, (fd) => new BrokerLink(fd, options));
  }

  /** Connects without waiting: watch `fd` and dispatch() until there is a `welcome`.
   *  @throws FailureError "no-broker", SyscallError */
  static override approach(options: ConnectOptions): Approached<BrokerLink> {
    return BrokerLink.approachWith(options, (fd) => new BrokerLink(fd, options));
  }

  /** Offers a service. @throws FailureError name-in-use, denied, quota; TypeError for an option that there is not */
  listen(name: string, options: ListenOptions = {}): Service {
    checkName(name);
    checkListenOptions(options);
    return this.ask(() => this.#listen(name, options));
  }

  #listen(name: string, options: ListenOptions): Service {
    this.checkCapacity(options.capacity);
    const service = new Service(this, name, options);
    try {
      this.#announce(service);
      this.answer(() => service.settled, `the broker to offer "${name}"`);
      if (service.failure !== undefined) throw service.failure;
      return service;
    } catch (error) {
      service.close();
      throw error;
    }
  }

  protected override get offers(): boolean {
    return this.#services.size > 0;
  }

  protected override offerAgain(): readonly Service[] {
    const services = [...this.#services];
    for (const service of services) this.#announce(service);
    return services;
  }

  #announce(service: Service): void {
    const id = this.connection.newObject("shmlink_service_v1");
    service.moveTo(id);
    this.#services.add(service);
    this.sinks.set(id, (message) => {
      service.handle(message);
      if (service.failure !== undefined) this.#services.delete(service); // it is not asked for again
    });
    const { name, capacity, direction } = service;
    this.requestDirected({ kind: "listen", id, name, capacity }, direction);
  }

  /** For a service that closes. */
  withdraw(service: Service, object: ObjectId, generation: number): void {
    this.#services.delete(service);
    this.forget(object, "shmlink_service_v1", generation);
  }
}
