/**
 * Installs DisposableStack where the runtime lacks it (Node 20; ECMAScript explicit resource management). Import it
 * first, for its effect. Only what shmlink uses: use, defer, move, dispose.
 */

class Stack {
  #disposers: (() => void)[] = [];
  #disposed = false;

  use<T extends Disposable | null | undefined>(value: T): T {
    if (value !== null && value !== undefined) this.defer(() => value[Symbol.dispose]());
    return value;
  }

  defer(dispose: () => void): void {
    if (this.#disposed) throw new ReferenceError("DisposableStack is disposed");
    this.#disposers.push(dispose);
  }

  move(): Stack {
    const moved = new Stack();
    moved.#disposers = this.#disposers;
    this.#disposers = [];
    this.#disposed = true;
    return moved;
  }

  /** Last in, first out; every disposer runs, and the first error is thrown at the end. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    const errors: unknown[] = [];
    for (const dispose of this.#disposers.reverse()) {
      try {
        dispose();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

const globals = globalThis as { DisposableStack?: unknown };
globals.DisposableStack ??= Stack;
