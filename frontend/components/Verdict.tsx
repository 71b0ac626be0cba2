import { m } from "motion/react";
import type { Analysis, Dossier, Verdict as Name } from "../api/types";
import { confidence, percent } from "../lib/format";
import { Heading } from "./Heading";
import { Icon, type IconName } from "./Icon";

const LOOK: Record<Name, { icon: IconName; text: string; wash: string; edge: string }> = {
  Deepfake: { icon: "alert", text: "text-fake", wash: "bg-fake-wash", edge: "border-t-fake" },
  Authentic: { icon: "check", text: "text-real", wash: "bg-real-wash", edge: "border-t-real" },
  Undetermined: { icon: "question", text: "text-unsure", wash: "bg-unsure-wash", edge: "border-t-unsure" },
};

/** Share of known videos that lie nearer, above which a video counts as unknown: `Novelty.novel` of the analysis. */
const NOVEL = 0.99;

interface Props {
  dossier: Dossier;
  analysis: Analysis;
  demo: boolean;
}

/** The service's verdict, how sure it is and why; nothing is drawn where the service gave no result. */
export function Verdict({ dossier, analysis, demo }: Props) {
  const result = dossier.status.result;
  if (!result) return null;
  const look = LOOK[result.verdict];
  const { calibrated, novelty } = analysis;
  return (
    <section className={`card border-t-4 p-5 sm:p-7 ${look.edge}`} data-testid="verdict" data-verdict={result.verdict}>
      <div className="grid gap-x-10 gap-y-6 lg:grid-cols-[1fr_22rem]">
        <div className="min-w-0">
          <p className="text-sm break-words text-soft">{dossier.fileName}</p>
          <div className="mt-2 flex flex-wrap items-center gap-3">
            <m.span
              className={`grid size-12 shrink-0 place-items-center rounded-full ${look.wash} ${look.text}`}
              initial={{ scale: 0.7, opacity: 0 }}
              animate={{ scale: 1, opacity: 1 }}
              transition={{ duration: 0.35 }}
            >
              <Icon name={look.icon} className="size-7" />
            </m.span>
            <Heading className={`text-3xl font-semibold tracking-tight sm:text-4xl ${look.text}`}>
              {result.verdict}
            </Heading>
            {demo && (
              <span className="rounded-full border border-unsure px-2.5 whitespace-nowrap py-0.5 text-xs font-semibold text-unsure">
                demo model
              </span>
            )}
          </div>
          {dossier.why && <p className="mt-4 max-w-prose text-lg leading-snug">{dossier.why}</p>}
          {novelty && novelty.quantile > NOVEL && (
            <p className="mt-4 flex items-start gap-2 rounded-lg bg-unsure-wash px-4 py-3 text-sm" data-testid="novel">
              <Icon name="alert" className="mt-px size-5 text-unsure" />
              This video is unlike what the detector knows: {percent(novelty.quantile)} of {novelty.n} known videos (
              {novelty.known}) lie nearer. Its score means little.
            </p>
          )}
        </div>
        <div className="min-w-0 lg:border-l lg:border-edge lg:pl-8">
          {result.verdict === "Undetermined" ? (
            <p>
              <span className="block text-2xl font-semibold">No verdict</span>
              <span className="text-sm text-soft">The evidence does not suffice for one, either way.</span>
            </p>
          ) : (
            <p>
              <span className="block text-3xl font-semibold tabular-nums" data-testid="confidence">
                {confidence(result.confidence / 100)}
              </span>
              <span className="text-sm font-medium">
                {calibrated ? "Calibrated confidence" : "Confidence, uncalibrated"}
              </span>
            </p>
          )}
          <p className="mt-1 text-sm text-soft">
            {calibrated
              ? `On ${calibrated.n} labelled videos (${calibrated.on}), ${calibrated.date}.`
              : "A score, not a frequency: of videos with this number, any share may be forged."}
          </p>
          <Scale analysis={analysis} />
        </div>
      </div>
    </section>
  );
}

/** P(fake) on a line from authentic to deepfake, with the threshold and the stretch where no verdict is given. */
function Scale({ analysis }: { analysis: Analysis }) {
  const { probability, threshold, least_confidence: least } = analysis;
  const at = (share: number) => `${(100 * share).toFixed(2)}%`;
  return (
    <figure className="mt-5">
      <figcaption className="flex justify-between text-xs font-medium text-soft">
        <span>Authentic</span>
        <span className="tabular-nums">P(fake) {probability.toFixed(3)}</span>
        <span>Deepfake</span>
      </figcaption>
      <div className="relative mt-2 h-3" aria-hidden="true">
        <span className="absolute inset-y-0.5 left-0 rounded-l-full bg-real/45" style={{ width: at(threshold) }} />
        <span className="absolute inset-y-0.5 right-0 rounded-r-full bg-fake/45" style={{ left: at(threshold) }} />
        {least > 0.5 && (
          <span className="absolute inset-y-0.5 bg-edge" style={{ left: at(1 - least), right: at(1 - least) }} />
        )}
        <span className="absolute -inset-y-0.5 w-px bg-ink/60" style={{ left: at(threshold) }} />
        <m.span
          className="absolute top-1/2 size-5 -translate-x-1/2 -translate-y-1/2 rounded-full border-[3px] border-card bg-ink"
          initial={{ left: "50%" }}
          animate={{ left: at(probability) }}
          transition={{ duration: 0.6, ease: "easeOut" }}
        />
      </div>
      <p className="mt-2 text-xs text-soft">
        Deepfake from {threshold.toFixed(2)} on
        {least > 0.5 && (
          <>
            ; no verdict between {(1 - least).toFixed(2)} and {least.toFixed(2)}
          </>
        )}
        .
      </p>
    </figure>
  );
}
