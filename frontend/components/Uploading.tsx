import { bytes } from "../lib/format";
import { Bar } from "./Bar";
import { Heading } from "./Heading";

interface Props {
  file: File;
  sent: number;
  total: number;
  onCancel: () => void;
}

/** How much of the file has been sent. */
export function Uploading({ file, sent, total, onCancel }: Props) {
  const share = total > 0 ? (100 * sent) / total : 0;
  const all = sent >= total && total > 0;
  return (
    <section className="card mx-auto max-w-2xl p-5 sm:p-7">
      <p className="eyebrow">{all ? "Received; looking at the file" : "Uploading"}</p>
      <Heading className="mt-1 text-xl font-semibold break-words">{file.name}</Heading>
      <div className="mt-5">
        <Bar value={share} label="Upload" />
      </div>
      <div className="mt-3 flex flex-wrap items-center justify-between gap-3">
        <p className="text-sm text-soft tabular-nums">
          {bytes(Math.min(sent, file.size))} of {bytes(file.size)} · {Math.floor(share)} %
        </p>
        <button type="button" className="button" onClick={onCancel}>
          Cancel
        </button>
      </div>
    </section>
  );
}
