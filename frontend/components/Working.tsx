import type { Stage, Status } from "../api/types";
import { nameOf } from "../lib/branches";
import { inWords, running } from "../lib/stages";
import { Bar } from "./Bar";
import { Heading } from "./Heading";
import { Icon } from "./Icon";
import { Pipeline } from "./Pipeline";

interface Props {
  name: string;
  status: Status | null;
  seen: readonly Stage[];
  lost: boolean;
}

/** A job under way, as the service tells it. */
export function Working({ name, status, seen, lost }: Props) {
  const percent = status?.percent ?? 0;
  return (
    <section className="card p-5 sm:p-7">
      <div className="flex items-start justify-between gap-4">
        <div className="min-w-0">
          <p className="eyebrow" data-testid="stage-name">
            {status?.stageName ?? "Asking how it stands"}
          </p>
          <Heading className="mt-1 text-xl font-semibold break-words">{name || "Analysis"}</Heading>
        </div>
        <p className="text-2xl font-semibold tabular-nums" aria-hidden="true">
          {Math.round(percent)} %
        </p>
      </div>
      <div className="mt-5">
        <Bar value={percent} label="Analysis" />
      </div>
      <div className="mt-8">
        <Pipeline states={running(seen)} detail={status ? detailOf(status) : ""} />
      </div>
      <p className="mt-6 text-sm text-soft">
        You can close this page: the analysis goes on without it, and stands under “Your analyses” when you come back.
      </p>
      {lost && (
        <p className="mt-6 flex items-center gap-2 rounded-lg bg-unsure-wash px-4 py-3 text-sm" data-testid="lost">
          <Icon name="cloud" className="size-5 text-unsure" />
          The service cannot be reached just now. The analysis goes on there; this page keeps asking.
        </p>
      )}
    </section>
  );
}

function detailOf(status: Status): string {
  return status.detail ? `${nameOf(status.detail)}: done` : inWords(status.stage);
}
