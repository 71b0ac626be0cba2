/** The pipeline as it is drawn, and what the service's stages say of it. */

import type { Stage } from "../api/types";

export interface Node {
  name: string;
  /** What goes on in it, in a few words. */
  what: string;
  stages: readonly Stage[];
}

export const NODES: readonly Node[] = [
  { name: "Ingest", what: "Decoding pictures and sound", stages: ["ingest"] },
  { name: "Compressed-domain hints", what: "Reading container and codec", stages: ["container"] },
  { name: "Face and voice", what: "Following the face, hearing the voice", stages: ["faces", "voice", "sync"] },
  { name: "Tiny gate", what: "A small network looks at patches", stages: ["gate"] },
  { name: "Heavy models", what: "The large networks judge", stages: ["models"] },
  { name: "Fusion", what: "One calibrated probability", stages: ["fusion"] },
];

export type NodeState = "waiting" | "active" | "done" | "passed" | "skipped" | "failed";

/** The stages that a job was seen in, in order, with the last one last. */
export function after(seen: readonly Stage[], stage: Stage): readonly Stage[] {
  return seen.at(-1) === stage ? seen : [...seen.filter((other) => other !== stage), stage];
}

/**
 * State of each node while a job runs: `passed` is a node that later ones have overtaken unseen, which happens where it has
 * no part in this detector and where the status is only asked for now and then.
 */
export function running(seen: readonly Stage[], failed = false): NodeState[] {
  const current = seen.at(-1);
  const furthest = NODES.findLastIndex((node) => node.stages.some((stage) => seen.includes(stage)));
  return NODES.map((node, n) => {
    if (current && node.stages.includes(current)) return failed ? "failed" : "active";
    if (node.stages.some((stage) => seen.includes(stage))) return "done";
    return n < furthest || current === "done" ? "passed" : "waiting";
  });
}

/** What the service measured: seconds of a stage, and of `branch NAME`. */
type Measured = readonly { name: string; seconds: number }[];

const GATE = "branch tiny";

/**
 * Seconds that each node took after the end: null where it was not measured, as ingest and fusion, "skipped" where it did not
 * run: there is no gate in this detector, or the gate ended the analysis before the large networks.
 */
export function ended(measured: Measured): (number | null | "skipped")[] {
  const sum = (wanted: (name: string) => boolean) => {
    const own = measured.filter(({ name }) => wanted(name));
    return own.length === 0 ? null : own.reduce((total, { seconds }) => total + seconds, 0);
  };
  const gate = sum((name) => name === GATE);
  const branches = sum((name) => name.startsWith("branch ") && name !== GATE);
  return NODES.map(({ stages }) => {
    if (stages.includes("gate")) return gate ?? "skipped";
    if (stages.includes("models")) return branches ?? (gate === null ? sum((name) => name === "models") : "skipped");
    return sum((name) => (stages as readonly string[]).includes(name));
  });
}

const SUBSTAGES: Record<Stage, string> = {
  queued: "Waiting for a free worker",
  ingest: "Decoding pictures and sound",
  container: "Reading container and codec",
  faces: "Following the face",
  voice: "Hearing the voice",
  sync: "Comparing lips and sound",
  gate: "The small network looks at patches",
  models: "The large networks judge",
  fusion: "Joining what was found",
  done: "Done",
};

/** A stage in words. */
export function inWords(stage: Stage): string {
  return SUBSTAGES[stage] ?? stage;
}
