import type { Analysis } from "../api/types";
import { nameOf } from "../lib/branches";

/** Lines of the ledger that are shown: the heaviest; the others are in the JSON and the report. */
const LINES = 8;

/** What adds up to the score, and what would have been said without each part. Nothing where the detector tells neither. */
export function Reasons({ analysis }: { analysis: Analysis }) {
  const { ledger, counterfactuals } = analysis;
  if (ledger.length === 0 && counterfactuals.length === 0) return null;
  return (
    <section className="card flex flex-col gap-5 p-5 sm:p-6" aria-labelledby="reasons">
      <h2 id="reasons" className="text-lg font-semibold">
        What it rests on
      </h2>
      {ledger.length > 0 && <Ledger ledger={ledger} />}
      {counterfactuals.length > 0 && (
        <div>
          <h3 className="text-sm font-semibold">Without one part</h3>
          <p className="mt-0.5 text-sm text-soft">
            P(fake) of all others together; {analysis.probability.toFixed(2)} with all
          </p>
          <dl className="mt-3 divide-y divide-edge text-sm">
            {counterfactuals.map(({ without, probability }) => {
              const turns =
                probability !== null &&
                probability >= analysis.threshold !== analysis.probability >= analysis.threshold;
              return (
                <div key={without} className="flex justify-between gap-4 py-2">
                  <dt>
                    Without {nameOf(without).toLowerCase()}
                    {turns && <span className="ml-2 font-medium text-unsure">turns the verdict</span>}
                  </dt>
                  <dd className="tabular-nums">{probability === null ? "nothing left" : probability.toFixed(2)}</dd>
                </div>
              );
            })}
          </dl>
        </div>
      )}
    </section>
  );
}

/** Log-odds to the left speak for authentic, to the right for deepfake. */
function Ledger({ ledger }: { ledger: Analysis["ledger"] }) {
  const heaviest = [...ledger].sort((a, b) => Math.abs(b.log_odds) - Math.abs(a.log_odds)).slice(0, LINES);
  const most = Math.abs(heaviest[0]?.log_odds ?? 0) || 1;
  return (
    <div>
      <h3 className="text-sm font-semibold">Evidence</h3>
      <p className="mt-0.5 text-sm text-soft">Log-odds; left speaks for authentic, right for deepfake</p>
      <ul className="mt-3 flex flex-col gap-2 text-sm">
        {heaviest.map(({ name, log_odds }) => {
          const width = `${(50 * Math.abs(log_odds)) / most}%`;
          return (
            <li key={name} className="grid grid-cols-[minmax(0,9rem)_1fr_3.5rem] items-center gap-3">
              <span className="break-words">{nameOf(name).replaceAll("_", " ")}</span>
              <span className="relative h-3 rounded bg-well" aria-hidden="true">
                <span
                  className={`absolute inset-y-0 ${log_odds >= 0 ? "left-1/2 rounded-r bg-fake" : "right-1/2 rounded-l bg-real"}`}
                  style={{ width }}
                />
                <span className="absolute inset-y-0 left-1/2 w-px bg-ink/60" />
              </span>
              <span className="text-right tabular-nums">
                {log_odds >= 0 ? "+" : "−"}
                {Math.abs(log_odds).toFixed(2)}
              </span>
            </li>
          );
        })}
      </ul>
      {ledger.length > LINES && (
        <p className="mt-2 text-xs text-soft">
          The {LINES} heaviest of {ledger.length}; the report has all.
        </p>
      )}
    </div>
  );
}
