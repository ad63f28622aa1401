/** Two rings in ordinary memory, and what stands at either end of the first: no kernel, no doorbell but a counter. */
import { RingConsumer } from "../../../lib/ring/consumer.ts";
import { HEAD, type RingMemory, ringFileBytes, ringMemory, TAIL } from "../../../lib/ring/layout.ts";
import { RingProducer } from "../../../lib/ring/producer.ts";

export type RingPair = {
  readonly producerMemory: RingMemory;
  readonly consumerMemory: RingMemory;
  readonly producer: RingProducer;
  readonly consumer: RingConsumer;
  /** How often each side was woken. */
  readonly rings: { consumer: number; producer: number };
};

/** @param position  where both positions start, a multiple of 8 */
export function ringPair(capacity: number, position = 0): RingPair {
  const producerMemory = ringMemory(new ArrayBuffer(ringFileBytes(capacity)));
  const consumerMemory = ringMemory(new ArrayBuffer(ringFileBytes(capacity)));
  producerMemory.words[TAIL] = position;
  consumerMemory.words[HEAD] = position;
  const rings = { consumer: 0, producer: 0 };
  const toConsumer = { ring: () => void rings.consumer++ };
  const toProducer = { ring: () => void rings.producer++ };
  return {
    producerMemory,
    consumerMemory,
    rings,
    producer: new RingProducer({ own: producerMemory, peer: consumerMemory, capacity, doorbell: toConsumer }),
    consumer: new RingConsumer({ own: consumerMemory, peer: producerMemory, capacity, doorbell: toProducer }),
  };
}

/** Everything that can be received now. */
export function receiveAll(consumer: RingConsumer): Uint8Array[] {
  const messages: Uint8Array[] = [];
  while (consumer.next() >= 0) {
    messages.push(consumer.copy());
    consumer.release();
  }
  return messages;
}
