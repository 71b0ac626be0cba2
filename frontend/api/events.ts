/** Server-sent events, read from a fetch: EventSource could not send the token. */

export interface ServerEvent {
  id: string;
  name: string;
  data: string;
}

/** Events of a stream of text, however it is cut into pieces. Comments, which keep the connection alive, are left out. */
export async function* parseEvents(pieces: AsyncIterable<string>): AsyncGenerator<ServerEvent> {
  let rest = "";
  let id = "";
  let name = "message";
  let data: string[] = [];
  for await (const piece of pieces) {
    rest += piece;
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "") {
        if (data.length > 0) yield { id, name, data: data.join("\n") };
        name = "message";
        data = [];
        continue;
      }
      const colon = line.indexOf(":");
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "data") data.push(value);
      else if (field === "event") name = value;
      else if (field === "id") id = value;
    }
  }
}

/** Text of a response's body as it comes in; ends the connection where nothing at all came for `silence` milliseconds. */
export async function* textOf(body: ReadableStream<Uint8Array>, silence: number): AsyncGenerator<string> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const read = await within(reader.read(), silence);
      if (read.done) return;
      yield decoder.decode(read.value, { stream: true });
    }
  } finally {
    void reader.cancel().catch(() => undefined);
  }
}

function within<T>(work: Promise<T>, milliseconds: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout>;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing was heard for ${milliseconds} ms`)), milliseconds);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}
