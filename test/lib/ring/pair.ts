/** Two rings in ordinary memory, and what stands at either end of the first: no kernel, no doorbell but a counter. */
import { type ConsumerOptions, RingConsumer } from "../../../lib/ring/consumer.ts";
import type { FastPath } from "../../../lib/ring/fast-path.ts";
import { HEAD, type RingMemory, ringFileBytes, ringMemory, TAIL } from "../../../lib/ring/layout.ts";
import { type ProducerOptions, RingProducer } from "../../../lib/ring/producer.ts";

export type RingPair = {
  readonly producerMemory: RingMemory;
  readonly consumerMemory: RingMemory;
  readonly producer: RingProducer;
  readonly consumer: RingConsumer;
  /** How often each side was woken. */
  readonly rings: { consumer: number; producer: number };
};

/** How machine code is got for the memory of one end. */
export type OpenFor = (own: Uint8Array, peer: Uint8Array) => FastPath | undefined;

/** @param position  where both positions start, a multiple of 8  @param open  without it TypeScript does all */
export function ringPair(capacity: number, position = 0, open?: OpenFor): RingPair {
  const producerMemory = ringMemory(new ArrayBuffer(ringFileBytes(capacity)));
  const consumerMemory = ringMemory(new ArrayBuffer(ringFileBytes(capacity)));
  producerMemory.words[TAIL] = position;
  consumerMemory.words[HEAD] = position;
  const rings = { consumer: 0, producer: 0 };
  const end = (own: RingMemory, peer: RingMemory, wakes: keyof typeof rings): ProducerOptions & ConsumerOptions => ({
    own,
    peer,
    capacity,
    doorbell: { ring: () => void rings[wakes]++ },
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

/** Everything that can be received now. */
export function receiveAll(consumer: RingConsumer): Uint8Array[] {
  const messages: Uint8Array[] = [];
  while (consumer.next() >= 0) {
    messages.push(consumer.copy());
    consumer.release();
  }
  return messages;
}
