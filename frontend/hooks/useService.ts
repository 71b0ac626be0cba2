/** Limits and model of the service, asked for when the page opens and again when the connection is back. */

import { useCallback, useEffect, useState } from "react";
import { asProblem, type Problem, service } from "../api/client";
import type { Limits, Model } from "../api/types";

export interface Service {
  limits: Limits | null;
  model: Model | null;
  /** Why they are not known; null while they are asked for, and where they are. */
  problem: Problem | null;
  ask: () => void;
}

const AGAIN = 3_000;

export function useService(): Service {
  const [found, setFound] = useState<Omit<Service, "ask">>({ limits: null, model: null, problem: null });
  const [turn, setTurn] = useState(0);
  const ask = useCallback(() => setTurn((before) => before + 1), []);

  useEffect(() => {
    const control = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    void Promise.allSettled([service.limits(control.signal), service.model(control.signal)]).then(([limits, model]) => {
      if (control.signal.aborted) return;
      const failed = [limits, model].find((answer) => answer.status === "rejected");
      const problem = failed ? asProblem(failed.reason) : null;
      setFound((before) => ({
        limits: limits.status === "fulfilled" ? limits.value : before.limits,
        model: model.status === "fulfilled" ? model.value : before.model,
        problem,
      }));
      if (problem && problem.status !== 401) timer = setTimeout(ask, AGAIN);
    });
    window.addEventListener("online", ask);
    return () => {
      control.abort();
      clearTimeout(timer);
      window.removeEventListener("online", ask);
    };
  }, [turn, ask]); // a new turn asks again

  return { ...found, ask };
}
