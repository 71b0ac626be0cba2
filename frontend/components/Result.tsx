import { useState } from "react";
import type { Dossier } from "../api/types";
import { Actions } from "./Actions";
import { Branches } from "./Branches";
import { Evidence } from "./Evidence";
import { Notes, Observations, Provenance } from "./Findings";
import { Reasons } from "./Reasons";
import { Verdict } from "./Verdict";

interface Props {
  dossier: Dossier;
  demo: boolean;
  file: File | undefined;
  onAttach: (file: File) => void;
  onRestart: () => void;
  onRemove: () => Promise<void>;
}

/** Everything that the service says of one video. */
export function Result({ dossier, demo, file, onAttach, onRestart, onRemove }: Props) {
  const [given, setGiven] = useState<File | undefined>(file);
  const { analysis } = dossier;
  if (!analysis) return null;
  return (
    <div className="flex flex-col gap-5">
      <Verdict dossier={dossier} analysis={analysis} demo={demo} />
      {/* Two columns; on narrow screens one, in which the notes come last. */}
      <div className="flex flex-col gap-5 lg:grid lg:grid-cols-[minmax(0,7fr)_minmax(0,5fr)] lg:items-start">
        <div className="contents lg:flex lg:flex-col lg:gap-5">
          <Evidence
            dossier={dossier}
            analysis={analysis}
            file={given}
            onAttach={(chosen) => {
              onAttach(chosen);
              setGiven(chosen);
            }}
          />
          <div className="order-last empty:hidden lg:order-none">
            <Notes notes={analysis.notes} />
          </div>
        </div>
        <div className="contents lg:flex lg:flex-col lg:gap-5">
          <Branches analysis={analysis} />
          <Reasons analysis={analysis} />
        </div>
      </div>
      <Observations observations={dossier.observations} />
      <Provenance dossier={dossier} analysis={analysis} />
      <Actions dossier={dossier} onRestart={onRestart} onRemove={onRemove} />
    </div>
  );
}
