/** Requests to the service, and what goes wrong with them in words. */

import { token } from "../lib/token";
import type { Dossier, Limits, Model, Status } from "./types";

const BASE = (import.meta.env.VITE_API_URL ?? "").replace(/\/+$/, "");

/** Something that went wrong, for people: what happened, and what to do about it. */
export class Problem extends Error {
  readonly status: number;
  readonly code: string;
  readonly title: string;
  readonly cure: string;

  /** `status` is the HTTP status, 0 where there was no answer. */
  constructor(title: string, cure: string, code = "", status = 0, detail = "") {
    super(detail || title);
    this.title = title;
    this.cure = cure;
    this.code = code;
    this.status = status;
  }
}

/** The problem of a request that got no answer. */
export function unreachable(): Problem {
  return new Problem(
    "The service cannot be reached.",
    "Check the connection, and that the service runs; then try again.",
    "UNREACHABLE",
  );
}

/** Whatever was thrown, as a problem. */
export function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  return new Problem("Something failed that nobody foresaw.", "Reload the page and try again.", "", 0, String(error));
}

/** The problem that an answer tells of: application/problem+json, or whatever a proxy put in its place. */
export function problemOf(status: number, text: string): Problem {
  let body: Record<string, unknown> = {};
  try {
    const read: unknown = JSON.parse(text);
    if (read !== null && typeof read === "object") body = read as Record<string, unknown>;
  } catch {
    // No JSON: the status has to do.
  }
  const said = (name: string) => (typeof body[name] === "string" ? (body[name] as string) : "");
  return new Problem(
    said("title") || `The service answered with status ${status}.`,
    said("cure") || (status >= 500 || status === 429 ? "Wait a moment, then try again." : ""),
    said("code") || String(status),
    status,
    said("detail"),
  );
}

export function address(path: string): string {
  return BASE + path;
}

export function headers(): Record<string, string> {
  const word = token.read();
  return word ? { Authorization: `Bearer ${word}` } : {};
}

/** Fetch a path. Throws a Problem for every answer that is none of success, and where there is no answer. */
export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(address(path), { ...init, headers: { ...headers(), ...init.headers } });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw unreachable();
  }
  if (!answer.ok) throw problemOf(answer.status, await answer.text());
  return answer;
}

async function json<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await request(path, signal ? { signal } : {})).json() as Promise<T>;
}

/** An analysis that an earlier version kept lacks what has been added since. */
function whole(dossier: Dossier): Dossier {
  const since = { ledger: [], calibrated: null, degraded: [], counterfactuals: [], novelty: null };
  return dossier.analysis ? { ...dossier, analysis: { ...since, ...dossier.analysis } } : dossier;
}

const of = (id: string) => encodeURIComponent(id);

export const service = {
  limits: (signal?: AbortSignal) => json<Limits>("/limits", signal),
  model: (signal?: AbortSignal) => json<Model>("/model", signal),
  status: (id: string, signal?: AbortSignal) => json<Status>(`/status/${of(id)}`, signal),
  dossier: async (id: string, signal?: AbortSignal) => whole(await json<Dossier>(`/analyses/${of(id)}`, signal)),
  report: async (id: string) => (await request(`/analyses/${of(id)}/report`)).blob(),
  remove: (id: string) => request(`/analyses/${of(id)}`, { method: "DELETE" }),
  /** Say what is known of a video: label 1 = it is a deepfake, 0 = it is authentic. */
  feedback: (id: string, label: 0 | 1) =>
    request(`/analyses/${of(id)}/feedback`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ label }),
    }),
};
