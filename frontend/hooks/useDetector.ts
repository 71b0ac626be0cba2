/** Where the page stands, from the choice of a file to the verdict, and the steps that lead from one to the next. */

import { useCallback, useEffect, useRef, useState } from "react";
import { asProblem, Problem, service } from "../api/client";
import { follow } from "../api/follow";
import type { Dossier, Limits, Stage, Status } from "../api/types";
import { upload } from "../api/upload";
import { checkFile, checkPicture, look } from "../lib/checks";
import { history } from "../lib/history";
import { route } from "../lib/route";
import { after } from "../lib/stages";

export type View =
  | { at: "start" }
  | { at: "uploading"; file: File; sent: number; total: number }
  | { at: "working"; id: string; name: string; status: Status | null; seen: readonly Stage[]; lost: boolean }
  | { at: "done"; id: string; dossier: Dossier }
  | { at: "failed"; problem: Problem; name: string; id: string | null; again: (() => void) | null };

/** The problem of a job that ended in an error. */
function problemOfJob(status: Status): Problem {
  return new Problem("This video could not be analysed.", "", status.code ?? "", 0, status.error ?? "");
}

export interface Detector {
  view: View;
  /** The file behind an analysis, where it was chosen in this tab. */
  fileOf: (id: string) => File | undefined;
  attach: (id: string, file: File) => void;
  choose: (files: readonly File[]) => void;
  cancel: () => void;
  open: (id: string) => void;
  restart: () => void;
  remove: (id: string) => Promise<void>;
}

/** `limits` is null while they are not known: then the service alone decides. */
export function useDetector(limits: Limits | null): Detector {
  const [view, setView] = useState<View>({ at: "start" });
  const files = useRef(new Map<string, File>());
  const work = useRef<AbortController | null>(null);

  /** Give up what goes on, and return the signal of what comes next. */
  const begin = useCallback((): AbortSignal => {
    work.current?.abort();
    work.current = new AbortController();
    return work.current.signal;
  }, []);

  const load = useCallback(
    async (id: string) => {
      const signal = begin();
      const set = (next: View) => {
        if (!signal.aborted) setView(next);
      };
      let name = files.current.get(id)?.name ?? "";
      let seen: readonly Stage[] = [];
      let status = null as Status | null;
      set({ at: "working", id, name, status, seen, lost: false });
      try {
        if (!name) {
          name = (await service.dossier(id, signal).catch(unlessFatal))?.fileName ?? "";
        }
        for await (const news of follow(id, signal)) {
          if ("status" in news) {
            status = { ...news.status, percent: Math.max(status?.percent ?? 0, news.status.percent) };
            seen = after(seen, status.stage);
          }
          set({ at: "working", id, name, status, seen, lost: "lost" in news });
        }
        if (signal.aborted || !status) return;
        if (status.status === "error") {
          const file = files.current.get(id);
          const again = file ? () => void sendRef.current(file) : null;
          set({ at: "failed", problem: problemOfJob(status), name, id, again });
          return;
        }
        const dossier = await patiently(() => service.dossier(id, signal), signal);
        set(
          dossier.analysis
            ? { at: "done", id, dossier }
            : { at: "failed", problem: problemOfJob(dossier.status), name, id, again: null },
        );
      } catch (error) {
        if (signal.aborted) return;
        const problem = asProblem(error);
        if (problem.status === 404) history.remove(id);
        set({
          at: "failed",
          problem: problem.status === 404 ? forgotten() : problem,
          name,
          id,
          again: () => void load(id),
        });
      }
    },
    [begin],
  );

  const send = useCallback(
    async (file: File) => {
      const signal = begin();
      if (route.read()) route.leave();
      const fail = (problem: Problem, again: boolean) =>
        setView({
          at: "failed",
          problem,
          name: file.name,
          id: null,
          again: again ? () => void sendRef.current(file) : null,
        });
      const refusal = limits && checkFile(file, limits);
      if (refusal) return fail(refusal, false);
      setView({ at: "uploading", file, sent: 0, total: file.size });
      const picture = limits && (await look(file));
      if (signal.aborted) return;
      const unfit = limits && picture && checkPicture(picture, limits);
      if (unfit) return fail(unfit, false);
      try {
        const progress = (sent: number, total: number) => {
          if (!signal.aborted) setView({ at: "uploading", file, sent, total });
        };
        const status = await upload(file, progress, signal);
        if (signal.aborted) return;
        files.current.set(status.analysisId, file);
        history.add(status.analysisId);
        route.go(status.analysisId);
      } catch (error) {
        if (!signal.aborted) fail(asProblem(error), true);
      }
    },
    [begin, limits],
  );
  const sendRef = useRef(send);
  sendRef.current = send;

  useEffect(() => {
    const arrive = () => {
      const id = route.read();
      if (id) void load(id);
      else {
        begin();
        setView({ at: "start" });
      }
    };
    arrive();
    window.addEventListener("popstate", arrive);
    return () => {
      window.removeEventListener("popstate", arrive);
      work.current?.abort();
    };
  }, [begin, load]);

  useWarningBeforeLeaving(view.at === "uploading");

  return {
    view,
    fileOf: (id) => files.current.get(id),
    attach: (id, file) => void files.current.set(id, file),
    choose: (chosen) => {
      const [file, ...more] = chosen;
      if (!file) return;
      if (more.length === 0) void send(file);
      else {
        begin();
        const problem = new Problem(`${chosen.length} files were given at once.`, "Give one video at a time.");
        setView({ at: "failed", problem, name: "", id: null, again: null });
      }
    },
    cancel: () => {
      begin();
      setView({ at: "start" });
    },
    open: (id) => route.go(id),
    restart: () => route.go(null),
    remove: async (id) => {
      await service.remove(id).catch((error) => {
        if (asProblem(error).status !== 404) throw error;
      });
      files.current.delete(id);
      history.remove(id);
      route.go(null);
    },
  };
}

function forgotten(): Problem {
  return new Problem(
    "The service does not know this analysis.",
    "It was deleted, or its time has run out. Analyse the video again.",
    "NO_SUCH_ANALYSIS",
    404,
  );
}

/** Nothing where a job is merely not done yet; what says that it is not there, or not to be asked for, goes on. */
function unlessFatal(error: unknown): null {
  if (error instanceof Problem && (error.status === 404 || error.status === 401)) throw error;
  return null;
}

/** Ask until there is an answer, with a second between: the verdict is there, only the way to it is cut. */
async function patiently<T>(ask: () => Promise<T>, signal: AbortSignal): Promise<T> {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 0 || signal.aborted) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
  }
}

function useWarningBeforeLeaving(active: boolean): void {
  useEffect(() => {
    if (!active) return;
    const warn = (event: BeforeUnloadEvent) => event.preventDefault();
    window.addEventListener("beforeunload", warn);
    return () => window.removeEventListener("beforeunload", warn);
  }, [active]);
}
