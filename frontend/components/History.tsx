import { useEffect, useState } from "react";
import { Problem, service } from "../api/client";
import type { Dossier, Verdict } from "../api/types";
import { confidence, date } from "../lib/format";
import { history } from "../lib/history";
import { route } from "../lib/route";

const COLOUR: Record<Verdict, string> = { Deepfake: "text-fake", Authentic: "text-real", Undetermined: "text-unsure" };
const AGAIN = 3_000;

/** This browser's analyses, as the service tells them now. */
export function History() {
  const { ids, found } = useHistory();
  if (ids.length === 0) return null;
  return (
    <section className="mt-8" aria-labelledby="history" data-testid="history">
      <div className="flex items-baseline justify-between gap-4">
        <h2 id="history" className="text-lg font-semibold">
          Your analyses
        </h2>
        <button type="button" className="text-sm text-soft underline hover:text-ink" onClick={() => history.clear()}>
          Clear this list
        </button>
      </div>
      <ul className="card mt-3 divide-y divide-edge">
        {ids.map((id) => (
          <li key={id}>
            <a
              href={route.of(id)}
              className="flex flex-wrap items-center justify-between gap-x-4 gap-y-0.5 px-4 py-3 hover:bg-well sm:px-5"
            >
              <Entry id={id} dossier={found[id]} />
            </a>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Entry({ id, dossier }: { id: string; dossier: Dossier | undefined }) {
  const status = dossier?.status;
  return (
    <>
      <span className="min-w-0 break-words">
        <span className="font-medium">{dossier?.fileName || `Analysis ${id.slice(0, 8)}`}</span>
        {dossier && <span className="block text-sm text-soft">{date(dossier.created)}</span>}
      </span>
      {status?.result && (
        <span className={`font-semibold ${COLOUR[status.result.verdict]}`}>
          {status.result.verdict}
          {status.result.verdict !== "Undetermined" && (
            <span className="ml-2 font-normal text-soft tabular-nums">
              {confidence(status.result.confidence / 100)}
            </span>
          )}
        </span>
      )}
      {status?.status === "processing" && (
        <span className="text-sm text-accent tabular-nums">
          {status.stageName}, {Math.round(status.percent)} %
        </span>
      )}
      {status?.status === "error" && <span className="text-sm text-fake">Could not be analysed</span>}
    </>
  );
}

/** The ids that are kept, and what the service knows of each; those that it knows no more are dropped. */
function useHistory(): { ids: string[]; found: Record<string, Dossier> } {
  const [ids, setIds] = useState(history.read);
  const [found, setFound] = useState<Record<string, Dossier>>({});
  const [turn, setTurn] = useState(0);
  useEffect(() => history.watch(() => setIds(history.read())), []);
  useEffect(() => {
    const control = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const ask = async () => {
      let open = false;
      for (const id of ids) {
        if (found[id] && found[id].status.status !== "processing") continue;
        try {
          const dossier = await service.dossier(id, control.signal);
          open ||= dossier.status.status === "processing";
          setFound((before) => ({ ...before, [id]: dossier }));
        } catch (error) {
          if (control.signal.aborted) return;
          if (error instanceof Problem && error.status === 404) history.remove(id);
          else open = true;
        }
      }
      if (open && !control.signal.aborted) timer = setTimeout(() => setTurn((before) => before + 1), AGAIN);
    };
    void ask();
    return () => {
      control.abort();
      clearTimeout(timer);
    };
  }, [ids, turn]); // `found` is as it stands then: what has ended is not asked for again
  return { ids, found };
}
