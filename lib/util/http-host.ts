/** The host that an HTTP/1 request names, from the bytes that have come so far. Pure, and bounded by what it is given:
 *  a prefix of a request is "more", what can never become one is "none". */

export type Peeked =
  | { readonly kind: "host"; readonly host: string }
  | { readonly kind: "more" }
  | { readonly kind: "none" };

const REQUEST_LINE = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32} [\x21-\x7e]{1,8192} HTTP\/1\.[01]$/;
/** What the beginning of a request line may be. */
const BEGINNING = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}( [\x21-\x7e]*( [HTP/1.0]*)?)?\r?$/;

export function peekHttpHost(bytes: Uint8Array): Peeked {
  if (bytes.length === 0) return { kind: "more" };
  const text = new TextDecoder("latin1").decode(bytes);
  const lines = text.split("\r\n");
  const [first = ""] = lines;
  if (lines.length === 1) return { kind: BEGINNING.test(first) ? "more" : "none" };
  if (!REQUEST_LINE.test(first)) return { kind: "none" };
  for (const line of lines.slice(1, -1)) {
    if (line === "") return { kind: "none" }; // the end of the header, and no Host in it
    const value = /^host:[ \t]*(.*?)[ \t]*$/i.exec(line)?.[1];
    if (value !== undefined) return hostOf(value);
  }
  return { kind: "more" };
}

/** "Example.org:8080" → "example.org"; an IPv6 address without its brackets. */
export function hostOf(value: string): Peeked {
  const host = /^(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::\d{1,5})?$/.exec(value);
  const name = host?.[1] ?? host?.[2];
  return name === undefined ? { kind: "none" } : { kind: "host", host: name.toLowerCase().replace(/\.$/, "") };
}
