/** What the service answers: docs/service.md and its OpenAPI document have every field. */

export type Stage =
  | "queued"
  | "ingest"
  | "container"
  | "faces"
  | "voice"
  | "sync"
  | "gate"
  | "models"
  | "fusion"
  | "done";

export type Verdict = "Deepfake" | "Authentic" | "Undetermined";

/** How a job stands. */
export interface Status {
  analysisId: string;
  status: "processing" | "complete" | "error";
  /** 0 to 100; never goes back. */
  percent: number;
  stageName: string;
  stage: Stage;
  /** What has just been done, such as the name of a branch. */
  detail: string | null;
  /** `confidence` is 0 to 100. */
  result: { verdict: Verdict; confidence: number } | null;
  error: string | null;
  code: string | null;
}

/** Seconds of the video's own clock and their P(fake), in [0, 1]. */
export interface Segment {
  start: number;
  end: number;
  probability: number;
  weight: number | null;
}

/** One part of the detector: its own P(fake), null where it had nothing to judge; what it counts for; seconds it took. */
export interface Branch {
  name: string;
  probability: number | null;
  weight: number;
  seconds: number;
  timeline: Segment[];
}

/** `Analysis` of visavox/detectors/analysis.py. */
export interface Analysis {
  verdict: "fake" | "real" | "undetermined";
  probability: number;
  confidence: number;
  branches: Branch[];
  timeline: Segment[];
  flagged: [number, number][];
  notes: string[];
  card: { detector: string; checkpoint: string; prep_hash: string; calibration: string; trained_on: string };
  threshold: number;
  least_confidence: number;
  settings: Record<string, unknown>;
  /** What adds up to the log-odds of fake; empty where the detector does not add log-odds. */
  ledger: { name: string; log_odds: number }[];
  /** The labelled clips that made a probability of the score; null: uncalibrated. */
  calibrated: { on: string; n: number; date: string } | null;
  degraded: { what: string; why: string }[];
  /** P(fake) without each of the parts. */
  counterfactuals: { without: string; probability: number | null }[];
  /** How unlike the video is to those that the detector knows: `quantile` of them lie nearer. */
  novelty: { distance: number; quantile: number; known: string; n: number } | null;
}

export interface Observation {
  name: string;
  value: string;
  note: string | null;
}

/** GET /analyses/{id}: everything about one video; `analysis` is null while it runs and where it failed. */
export interface Dossier {
  analysisId: string;
  fileName: string;
  sha256: string;
  bytes: number;
  created: string;
  finished: string | null;
  status: Status;
  analysis: Analysis | null;
  why: string | null;
  observations: Observation[];
  stages: { name: string; seconds: number }[];
  provenance: { checkpoint: string; prep_hash: string; commit: string; version: string; calibration: string } | null;
  /** `seconds` and `fps` are null where the file declares none. */
  media: { seconds: number | null; width: number; height: number; fps: number | null; hasSound: boolean } | null;
}

export interface Limits {
  maxBytes: number;
  maxSeconds: number;
  maxPixels: number;
  maxSide: number;
  minSide: number;
  maxFps: number;
  queueLength: number;
  uploadsPerClient: number;
  accept: string[];
  retentionMinutes: number;
}

export interface Model {
  detector: string;
  branches: string[];
  calibration: string;
  demo: boolean;
}
