import type { Analysis, Dossier, Observation } from "../api/types";
import { bytes, date, duration } from "../lib/format";
import { ended } from "../lib/stages";
import { Pipeline } from "./Pipeline";

/** What container and codec tell: observations, which are no part of the score. */
export function Observations({ observations }: { observations: readonly Observation[] }) {
  if (observations.length === 0) return null;
  return (
    <section className="card p-5 sm:p-6" aria-labelledby="observations" data-testid="observations">
      <h2 id="observations" className="text-lg font-semibold">
        Compressed-domain hints
      </h2>
      <p className="mt-0.5 text-sm text-soft">What the container and the codec tell. None of it enters the score.</p>
      <dl className="mt-4 divide-y divide-edge text-sm">
        {observations.map(({ name, value, note }) => (
          <div key={`${name} ${value}`} className="grid gap-x-4 py-2 sm:grid-cols-[11rem_1fr]">
            <dt className="text-soft">{name}</dt>
            <dd className="min-w-0 break-words">
              {value}
              {note && <span className="block text-soft">{note}</span>}
            </dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

/** What the detector noted, in its own words. */
export function Notes({ notes }: { notes: readonly string[] }) {
  if (notes.length === 0) return null;
  return (
    <section className="card p-5 sm:p-6" aria-labelledby="notes">
      <h2 id="notes" className="text-lg font-semibold">
        Notes
      </h2>
      <ul className="mt-3 flex list-disc flex-col gap-1.5 pl-5 text-sm marker:text-soft">
        {[...new Set(notes)].map((note) => (
          <li key={note} className="break-words">
            {note}
          </li>
        ))}
      </ul>
    </section>
  );
}

/** The stations with the seconds that each took, and where the numbers come from. */
export function Provenance({ dossier, analysis }: { dossier: Dossier; analysis: Analysis }) {
  const { media, provenance } = dossier;
  const rows: [string, string][] = [
    ["Detector", analysis.card.detector],
    ["Calibration", provenance?.calibration || analysis.card.calibration],
    ["Trained on", analysis.card.trained_on || "not said"],
    ["Checkpoint, sha256", provenance?.checkpoint || analysis.card.checkpoint],
    ["Preprocessing", provenance?.prep_hash || analysis.card.prep_hash],
    ["Visavox", [provenance?.version, provenance?.commit].filter(Boolean).join(", commit ")],
    ["File, sha256", dossier.sha256],
    ["File", [bytes(dossier.bytes), media && pictureOf(media)].filter(Boolean).join(", ")],
    ["Analysed", dossier.finished ? date(dossier.finished) : ""],
    ["Analysis", dossier.analysisId],
  ];
  return (
    <details className="card p-5 sm:p-6">
      <summary className="text-lg font-semibold">How this came about</summary>
      {dossier.stages.length > 0 && (
        <div className="mt-6">
          <Course stages={dossier.stages} />
        </div>
      )}
      <dl className="mt-6 divide-y divide-edge text-sm">
        {rows
          .filter(([, value]) => value)
          .map(([name, value]) => (
            <div key={name} className="grid gap-x-4 py-2 sm:grid-cols-[11rem_1fr]">
              <dt className="text-soft">{name}</dt>
              <dd
                className={`min-w-0 break-all ${/sha256|Prepro|^Analysis$/.test(name) ? "font-mono text-xs leading-5" : ""}`}
              >
                {value}
              </dd>
            </div>
          ))}
      </dl>
    </details>
  );
}

function Course({ stages }: Pick<Dossier, "stages">) {
  const nodes = ended(stages);
  return (
    <Pipeline
      states={nodes.map((node) => (node === "skipped" ? "skipped" : "done"))}
      seconds={nodes.map((node) => (node === "skipped" ? null : node))}
    />
  );
}

/** Length, size, rate and sound of a video, as far as its file declares them. */
export function pictureOf(media: NonNullable<Dossier["media"]>): string {
  const { seconds, width, height, fps, hasSound } = media;
  return [
    seconds !== null && duration(seconds),
    `${width} × ${height}`,
    fps !== null && `${Number(fps.toFixed(2))} frames/s`,
    `${hasSound ? "with" : "without"} sound`,
  ]
    .filter(Boolean)
    .join(", ");
}
