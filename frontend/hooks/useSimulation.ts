/** The pipeline's animation by itself. What it gives are stages alone: no number and no verdict can come of it. */

import { useEffect, useState } from "react";
import type { Stage } from "../api/types";
import { after } from "../lib/stages";

const COURSE: readonly Stage[] = [
  "queued",
  "ingest",
  "container",
  "faces",
  "voice",
  "sync",
  "gate",
  "models",
  "fusion",
  "done",
];
const MILLISECONDS = 1_100;

export function useSimulation(active: boolean): readonly Stage[] {
  const [seen, setSeen] = useState<readonly Stage[]>([]);
  useEffect(() => {
    if (!active) return;
    let step = 0;
    const timer = setInterval(() => {
      const stage = COURSE[step % COURSE.length] ?? "queued";
      setSeen((before) => (step % COURSE.length === 0 ? [stage] : after(before, stage)));
      step += 1;
    }, MILLISECONDS);
    return () => clearInterval(timer);
  }, [active]);
  return seen;
}
