/** What wakes the side that sleeps. Rings decide when; what it is made of is a matter of lib/channel. */
export type Doorbell = {
  /** Must not block, and may be called when nobody sleeps. */
  ring(): void;
};
