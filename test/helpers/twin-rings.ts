/** Two rings of the same contents: at one TypeScript works, at the other machine code. What they do must not differ. */
import { RecordPath } from "../../ffi/mod.ts";
import { RingConsumer } from "../../lib/ring/consumer.ts";
import type { FastPath } from "../../lib/ring/fast-path.ts";
import { HEAD, type RingMemory, ringFileBytes, ringMemory, TAIL } from "../../lib/ring/layout.ts";
import { RingProducer } from "../../lib/ring/producer.ts";

export type Ring = {
  readonly producerMemory: RingMemory;
  readonly consumerMemory: RingMemory;
  readonly producer: RingProducer;
  readonly consumer: RingConsumer;
  readonly rings: { consumer: number; producer: number };
};

/** @param open  how machine code is got for memory; undefined for none */
export function ring(
  capacity: number,
  position: number,
  open?: (own: Uint8Array, peer: Uint8Array) => FastPath | undefined,
): Ring {
  const [producerMemory, consumerMemory] = [0, 0].map(() => ringMemory(new ArrayBuffer(ringFileBytes(capacity)))) as [
    RingMemory,
    RingMemory,
  ];
  producerMemory.words[TAIL] = position;
  consumerMemory.words[HEAD] = position;
  const rings = { consumer: 0, producer: 0 };
  const end = (own: RingMemory, peer: RingMemory, who: keyof typeof rings) => ({
    own,
    peer,
    capacity,
    doorbell: { ring: () => void rings[who]++ },
    openFastPath: open && (() => open(own.bytes, peer.bytes)),
  });
  return {
    producerMemory,
    consumerMemory,
    rings,
    producer: new RingProducer(end(producerMemory, consumerMemory, "consumer")),
    consumer: new RingConsumer(end(consumerMemory, producerMemory, "producer")),
  };
}

/** @returns the two, and how often the machine code was called */
export function twins(capacity: number, position: number): { readonly rings: readonly [Ring, Ring]; calls(): number } {
  let calls = 0;
  const fast = ring(capacity, position, (own, peer) => {
    const path = RecordPath.open(own, peer);
    if (path === undefined) throw new Error("Cannot test machine code: the system does not allow it");
    return new Proxy(path, {
      get: (target, key) => {
        const value: unknown = Reflect.get(target, key, target);
        if (typeof value !== "function") return value;
        calls++;
        return (...args: unknown[]): unknown => (value as (...args: unknown[]) => unknown).apply(target, args);
      },
    });
  });
  return { rings: [ring(capacity, position), fast], calls: () => calls };
}
