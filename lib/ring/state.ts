/**
 * Where one end of a ring stands: its positions and what its fast path checks, as words, because machine code works on
 * the same ones (ffi/machine/record-path.c has them in this order).
 */

export const STATE_WORDS = 24;

// Of a producer
/** End of what was put, and of what the consumer may see. */
export const OUT_TAIL = 0;
export const OUT_PUBLISHED = 1;
/** The position the tail must not pass: the consumer's, when last read, and the capacity. */
export const OUT_LIMIT = 2;
export const OUT_BLOCKED = 3;
/** The wake word that the doorbell was last rung for. */
export const OUT_RUNG = 4;
export const OUT_CAPACITY = 5;
export const OUT_MAX_PAYLOAD = 6;
/** The low halves of two totals. */
export const OUT_BYTES = 7;
export const OUT_MESSAGES = 8;

// Of a consumer
/** End of what was consumed, of what the producer may overwrite, and the producer's position when last read. */
export const IN_HEAD = 0;
export const IN_PUBLISHED = 1;
export const IN_TAIL = 2;
export const IN_STATE = 3;
export const IN_RUNG = 4;
export const IN_CAPACITY = 5;
export const IN_MAX_PAYLOAD = 6;
export const IN_PUBLISH_EVERY = 7;
/** Type of the record or message under way. */
export const IN_TYPE = 8;
