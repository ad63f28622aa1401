/** Where a consumer stands, by name: state.ts says what each word is. */
import { RingEnd } from "./ring-end.ts";
import { IN_HEAD, IN_PUBLISHED, IN_STATE, IN_TAIL, IN_TYPE } from "./state.ts";

export class ConsumerPlace extends RingEnd {
  /** Type of the record that next() found, or of the message that receive() took. */
  get type(): number {
    return this.place[IN_TYPE] as number;
  }

  set type(type: number) {
    this.place[IN_TYPE] = type;
  }

  protected get head(): number {
    return this.place[IN_HEAD] as number;
  }

  protected set head(position: number) {
    this.place[IN_HEAD] = position;
  }

  protected get published(): number {
    return this.place[IN_PUBLISHED] as number;
  }

  protected set published(position: number) {
    this.place[IN_PUBLISHED] = position;
  }

  protected get tail(): number {
    return this.place[IN_TAIL] as number;
  }

  protected set tail(position: number) {
    this.place[IN_TAIL] = position;
  }

  /** OPEN, IN_MESSAGE, WATCHED, ARMED, REFUSED. */
  protected get state(): number {
    return this.place[IN_STATE] as number;
  }

  protected set state(state: number) {
    this.place[IN_STATE] = state;
  }
}
