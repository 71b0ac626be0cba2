import type { Problem } from "../api/client";
import { Heading } from "./Heading";
import { Icon } from "./Icon";

interface Props {
  problem: Problem;
  /** Name of the file; empty where there is none. */
  name: string;
  onAgain: (() => void) | null;
  onRestart: () => void;
}

/** What went wrong, and what to do about it. */
export function Failure({ problem, name, onAgain, onRestart }: Props) {
  const detail = problem.message === problem.title ? "" : problem.message;
  return (
    <section className="card mx-auto max-w-2xl border-l-4 border-l-fake p-5 sm:p-7" data-testid="failure">
      <div className="flex items-start gap-3">
        <Icon name="alert" className="mt-0.5 size-6 text-fake" />
        <div className="min-w-0">
          <Heading className="text-xl leading-snug font-semibold">{problem.title}</Heading>
          {name && <p className="mt-1 text-sm break-words text-soft">{name}</p>}
          {detail && <p className="mt-3 break-words">{detail}</p>}
          {problem.cure && (
            <p className="mt-3 break-words">
              <span className="font-medium">What to do: </span>
              {problem.cure}
            </p>
          )}
          {problem.code && <p className="mt-3 font-mono text-xs text-soft">{problem.code}</p>}
        </div>
      </div>
      <div className="mt-6 flex flex-wrap gap-3">
        {onAgain && (
          <button type="button" className="button-strong" onClick={onAgain}>
            Try again
          </button>
        )}
        <button type="button" className={onAgain ? "button" : "button-strong"} onClick={onRestart}>
          Choose another video
        </button>
      </div>
    </section>
  );
}
