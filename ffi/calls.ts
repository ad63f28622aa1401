/** The bound system calls. Each is bound on first use, since a command needs a dozen of the sixty. */
import { thunkAddress } from "./code-page.ts";
import { backend } from "./load.ts";
import { type BoundSymbol, SYMBOLS, type SymbolName } from "./symbols.ts";

type Calls = { readonly [N in SymbolName]: BoundSymbol<N> };

function lazily(target: object, name: SymbolName): void {
  Object.defineProperty(target, name, {
    configurable: true,
    get() {
      const fn = backend.pointer(thunkAddress(name), SYMBOLS[name]);
      Object.defineProperty(target, name, { value: fn });
      return fn;
    },
  });
}

function bindAll(): Calls {
  const target = {};
  for (const name of Object.keys(SYMBOLS) as SymbolName[]) lazily(target, name);
  return target as Calls;
}

/** Raw calls: a result below 0 is -errno. Only the files in sys/ use this. */
export const calls: Calls = bindAll();
