/** How a job goes on, until it ends: by events; by asking where events do not come through; again where the line is cut. */

import { Problem, request, service } from "./client";
import { parseEvents, textOf } from "./events";
import type { Status } from "./types";

/** A step of a job, or that the service is out of reach for the moment. */
export type News = { status: Status } | { lost: true };

/** Milliseconds: the service sends a comment every 15 s, so a silence longer than this is a dead line. */
const SILENCE = 40_000;
const POLL = 1_000;
const LONGEST_PAUSE = 10_000;
/** Streams that may break in a row before the status is asked for instead: some proxies hold events back. */
const PATIENCE = 2;

/** Yield what happens to a job. Returns after its end; throws a Problem where there is no such job or no leave to ask. */
export async function* follow(id: string, signal: AbortSignal): AsyncGenerator<News> {
  let last = "";
  let broken = 0;
  let pause = POLL;
  while (!signal.aborted) {
    try {
      if (broken < PATIENCE) {
        for await (const event of stream(id, last, signal)) {
          last = event.id;
          broken = 0;
          pause = POLL;
          yield { status: event.status };
          if (event.status.status !== "processing") return;
        }
        broken += 1;
      } else {
        const status = await service.status(id, signal);
        pause = POLL;
        yield { status };
        if (status.status !== "processing") return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && error.status >= 400 && error.status < 500 && error.status !== 429) throw error;
      const answered = error instanceof Problem && error.status > 0; // such as too many streams: asking may still work
      if (error instanceof Problem && (!answered || broken >= PATIENCE)) {
        yield { lost: true };
        pause = Math.min(pause * 1.6, LONGEST_PAUSE);
      } else broken += 1;
    }
    await sleep(pause, signal);
  }
}

async function* stream(id: string, last: string, signal: AbortSignal) {
  const resume: Record<string, string> = last ? { "Last-Event-ID": last } : {};
  const answer = await request(`/events/${encodeURIComponent(id)}`, {
    headers: { Accept: "text/event-stream", ...resume },
    signal,
  });
  if (!answer.body) throw new Error("this browser reads no streams");
  for await (const event of parseEvents(textOf(answer.body, SILENCE))) {
    if (event.name === "status") yield { id: event.id, status: JSON.parse(event.data) as Status };
  }
}

/** Wait; return at once when the browser comes back online or the signal is given. */
function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      window.removeEventListener("online", done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    window.addEventListener("online", done);
    signal.addEventListener("abort", done);
  });
}
