/** Where a producer stands, by name: state.ts says what each word is. */
import { RingEnd } from "./ring-end.ts";
import { OUT_BLOCKED, OUT_LIMIT, OUT_PUBLISHED, OUT_RUNG, OUT_TAIL } from "./state.ts";

export class ProducerPlace extends RingEnd {
  /** While true send() answers false at once, so that its caller cannot pass by what else has to be done. */
  get blocked(): boolean {
    return this.place[OUT_BLOCKED] !== 0;
  }

  set blocked(blocked: boolean) {
    this.place[OUT_BLOCKED] = blocked ? 1 : 0;
  }

  protected get tail(): number {
    return this.place[OUT_TAIL] as number;
  }

  protected set tail(position: number) {
    this.place[OUT_TAIL] = position;
  }

  protected get published(): number {
    return this.place[OUT_PUBLISHED] as number;
  }

  protected set published(position: number) {
    this.place[OUT_PUBLISHED] = position;
  }

  protected get limit(): number {
    return this.place[OUT_LIMIT] as number;
  }

  protected set limit(position: number) {
    this.place[OUT_LIMIT] = position;
  }

  protected set rung(wake: number) {
    this.place[OUT_RUNG] = wake;
  }
}
