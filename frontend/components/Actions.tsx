import { useRef, useState } from "react";
import { Problem, service } from "../api/client";
import type { Dossier } from "../api/types";
import { Icon } from "./Icon";

interface Props {
  dossier: Dossier;
  onRestart: () => void;
  onRemove: () => Promise<void>;
}

/** What can be done with a verdict: keep it, say whether it is right, delete it, go on. */
export function Actions({ dossier, onRestart, onRemove }: Props) {
  const [said, setSaid] = useState("");
  const dialog = useRef<HTMLDialogElement>(null);
  const stem = dossier.fileName.replace(/\.[^.]*$/, "") || dossier.analysisId;
  /** Do something, and say what came of it. */
  const attempt = async (work: () => Promise<unknown>, done: string) => {
    try {
      await work();
      setSaid(done);
    } catch (error) {
      setSaid(error instanceof Problem ? [error.message, error.cure].filter(Boolean).join(" ") : String(error));
    }
  };
  const json = () => new Blob([JSON.stringify(dossier, null, 2)], { type: "application/json" });
  return (
    <section className="card p-5 sm:p-6" aria-label="What to do with it">
      <div className="flex flex-wrap items-center gap-3">
        <button type="button" className="button-strong" onClick={onRestart}>
          Analyse another video
        </button>
        <button
          type="button"
          className="button"
          onClick={() =>
            void attempt(async () => save(await service.report(dossier.analysisId), `${stem}.html`), "Report saved.")
          }
        >
          <Icon name="download" /> Report (HTML)
        </button>
        <button
          type="button"
          className="button"
          onClick={() => void attempt(async () => save(json(), `${stem}.json`), "Data saved.")}
        >
          <Icon name="download" /> Data (JSON)
        </button>
        <button type="button" className="button text-fake sm:ml-auto" onClick={() => dialog.current?.showModal()}>
          <Icon name="trash" /> Delete
        </button>
      </div>
      <Feedback id={dossier.analysisId} attempt={attempt} />
      <p role="status" className="mt-3 text-sm font-medium" data-testid="said">
        {said}
      </p>
      <dialog ref={dialog} aria-labelledby="delete" className="card m-auto max-w-md p-6 text-ink backdrop:bg-black/50">
        <h2 id="delete" className="text-lg font-semibold">
          Delete this analysis?
        </h2>
        <p className="mt-2 text-sm text-soft">
          Video, verdict and report go from the service for good. Save the report first if you need it.
        </p>
        <div className="mt-5 flex flex-wrap gap-3">
          <button type="button" className="button" onClick={() => dialog.current?.close()}>
            Keep it
          </button>
          <button
            type="button"
            className="button text-fake"
            onClick={() => {
              dialog.current?.close();
              void attempt(onRemove, "");
            }}
          >
            Delete
          </button>
        </div>
      </dialog>
    </section>
  );
}

/** What the visitor knows of the video; kept with its score for a later recalibration, which people start. */
function Feedback({
  id,
  attempt,
}: {
  id: string;
  attempt: (work: () => Promise<unknown>, done: string) => Promise<void>;
}) {
  const send = (label: 0 | 1) =>
    void attempt(() => service.feedback(id, label), "Thank you: kept with the score, for the next calibration.");
  return (
    <div className="mt-5 flex flex-wrap items-center gap-3 border-t border-edge pt-5">
      <p className="text-sm">Do you know for certain what this video is?</p>
      <button type="button" className="button" onClick={() => send(0)}>
        It is authentic
      </button>
      <button type="button" className="button" onClick={() => send(1)}>
        It is a deepfake
      </button>
    </div>
  );
}

/** Hand a file to the browser's downloads. */
function save(content: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
