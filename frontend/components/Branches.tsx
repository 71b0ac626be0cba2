import { m } from "motion/react";
import type { Analysis, Branch } from "../api/types";
import { meaningOf, nameOf } from "../lib/branches";
import { percent, took } from "../lib/format";

/** What each part of the detector says by itself, what it counts for, and the seconds that it took. */
export function Branches({ analysis }: { analysis: Analysis }) {
  return (
    <section className="card p-5 sm:p-6" aria-labelledby="branches">
      <h2 id="branches" className="text-lg font-semibold">
        By branch
      </h2>
      <p className="mt-0.5 text-sm text-soft">P(fake) of each part alone</p>
      <ul className="mt-4 flex flex-col gap-5">
        {analysis.branches.map((branch) => (
          <Row
            key={branch.name}
            branch={branch}
            threshold={analysis.threshold}
            least={analysis.least_confidence}
            absent={analysis.degraded.find((left) => left.what === branch.name)?.why ?? ""}
          />
        ))}
      </ul>
    </section>
  );
}

interface RowProps {
  branch: Branch;
  threshold: number;
  /** Confidence below which nothing is called fake. */
  least: number;
  /** Why it has no opinion; empty where that is not told. */
  absent: string;
}

function Row({ branch, threshold, least, absent }: RowProps) {
  const p = branch.probability;
  const fake = p !== null && p >= threshold && Math.max(p, 1 - p) >= least;
  return (
    <li data-testid="branch">
      <div className="flex items-baseline justify-between gap-3">
        <p className="min-w-0">
          <span className="font-medium">{nameOf(branch.name)}</span>{" "}
          <span className="text-sm text-soft">{meaningOf(branch.name)}</span>
        </p>
        <p
          className={`shrink-0 font-semibold tabular-nums ${p === null ? "text-soft" : fake ? "text-fake" : "text-ink"}`}
        >
          {p === null ? "no opinion" : p.toFixed(2)}
        </p>
      </div>
      <div className="relative mt-1.5 h-2.5 rounded-full bg-well" aria-hidden="true">
        {p !== null && (
          <m.span
            className={`absolute inset-y-0 left-0 rounded-full ${fake ? "bg-fake" : "bg-curve"}`}
            initial={{ width: "0%" }}
            animate={{ width: `${Math.max(1, 100 * p)}%` }}
            transition={{ duration: 0.5, ease: "easeOut" }}
          />
        )}
        <span className="absolute -inset-y-0.5 w-px bg-ink/60" style={{ left: `${100 * threshold}%` }} />
      </div>
      <p className="mt-1 text-xs text-soft tabular-nums">
        {p === null
          ? absent || "Had nothing to judge, or did not run"
          : `Counts for ${percent(branch.weight)}${branch.seconds > 0 ? ` · ${took(branch.seconds)}` : ""}`}
      </p>
    </li>
  );
}
