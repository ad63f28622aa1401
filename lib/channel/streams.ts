/** WHATWG streams over a channel. A stream pulls only when its reader does, so the ring is all that is buffered. */

const CHUNK_BYTES = 1 << 16;

export type ByteEnd = {
  readBytesAsync(max: number): Promise<Uint8Array<ArrayBuffer> | undefined>;
  writeBytesAsync(chunk: Uint8Array): Promise<void>;
  end(): void;
  close(): void;
};

/** Bytes from the peer; ends when it ends. Cancelling closes the channel. */
export function readableFrom(end: ByteEnd): ReadableStream<Uint8Array<ArrayBuffer>> {
  return new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      async pull(controller) {
        const chunk = await end.readBytesAsync(CHUNK_BYTES);
        if (chunk === undefined) controller.close();
        else controller.enqueue(chunk);
      },
      cancel: () => end.close(),
    },
    { highWaterMark: 0 },
  );
}

/** Bytes to the peer. Closing it ends our direction, aborting it closes the channel. */
export function writableTo(end: ByteEnd): WritableStream<Uint8Array> {
  return new WritableStream<Uint8Array>(
    {
      // At once, and not after the write that may wait for a peer that does not read.
      start: ({ signal }) => signal.addEventListener("abort", () => end.close()),
      write: (chunk) => end.writeBytesAsync(chunk),
      close: () => end.end(),
      abort: () => end.close(),
    },
    { highWaterMark: 1 },
  );
}
