/** The bound system calls. Each is bound on first use, since a command needs a dozen of the sixty. */
import { thunkAddress } from "./code-page.ts";
import { backend } from "./load.ts";
import { type BoundSymbol, SYMBOLS, type SymbolName } from "./symbols.ts";

type Calls = { readonly [N in SymbolName]: BoundSymbol<N> };

/** Stands behind the calls: asked for the first time only, when there is none of that name yet. */
const unbound: ProxyHandler<object> = {
  get(_, name: SymbolName) {
    const fn = backend.pointer(thunkAddress(name), SYMBOLS[name]);
    Object.defineProperty(calls, name, { value: fn, configurable: true }); // for tests that count calls
    return fn;
  },
};

/** Raw calls: a result below 0 is -errno. Only the files in sys/ use this. */
export const calls: Calls = Object.create(new Proxy({}, unbound)) as Calls;
