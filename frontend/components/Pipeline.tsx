import { m, useReducedMotion } from "motion/react";
import { Fragment } from "react";
import { took } from "../lib/format";
import { NODES, type NodeState } from "../lib/stages";
import { Icon } from "./Icon";

const LOOK: Record<NodeState, string> = {
  waiting: "border-edge-strong/50 bg-card text-soft",
  active: "border-accent bg-accent-wash text-accent",
  done: "border-accent bg-accent text-accent-ink",
  passed: "border-edge-strong/50 bg-well text-soft",
  skipped: "border-edge-strong/50 bg-well text-soft",
  failed: "border-fake bg-fake-wash text-fake",
};

const WORDS: Record<NodeState, string> = {
  waiting: "waiting",
  active: "running",
  done: "done",
  passed: "passed",
  skipped: "not run",
  failed: "failed",
};

interface Props {
  /** Null: nothing runs; the stations are explained. */
  states: readonly NodeState[] | null;
  /** What the active node is at, in words. */
  detail?: string;
  /** Seconds that each node took; null where they are not known. */
  seconds?: readonly (number | null)[];
}

/** The stations of an analysis: a row on wide screens, a column on narrow ones. It shows what it is told, and moves by nothing else. */
export function Pipeline({ states, detail, seconds }: Props) {
  const still = useReducedMotion() ?? false;
  return (
    <ol className="flex flex-col md:flex-row" data-testid="pipeline" aria-label="Stages of the analysis">
      {NODES.map((node, n) => {
        const state = states?.[n] ?? "waiting";
        const measured = seconds?.[n] ?? null;
        return (
          <Fragment key={node.name}>
            {n > 0 && <Link flowing={state === "active" && !still} reached={state !== "waiting"} />}
            <li
              className="flex items-center gap-3 md:w-28 md:flex-col md:gap-2 md:text-center lg:w-32"
              data-state={state}
              aria-current={state === "active" ? "step" : undefined}
            >
              <span className={`relative grid size-9 shrink-0 place-items-center rounded-full border-2 ${LOOK[state]}`}>
                {state === "active" && !still && <Pulse />}
                <Sign state={state} n={n} />
              </span>
              <span className="min-w-0 py-2 md:py-0">
                <span className="block text-sm leading-tight font-medium">{node.name}</span>
                <span className="mt-0.5 block text-xs leading-snug text-soft">
                  {states === null
                    ? node.what
                    : state === "active"
                      ? detail || node.what
                      : measured !== null
                        ? took(measured)
                        : WORDS[state]}
                </span>
              </span>
            </li>
          </Fragment>
        );
      })}
    </ol>
  );
}

function Sign({ state, n }: { state: NodeState; n: number }) {
  if (state === "done") return <Icon name="check" className="size-5" />;
  if (state === "failed") return <Icon name="cross" className="size-4" />;
  if (state === "skipped" || state === "passed") return <Icon name="minus" className="size-4" />;
  return <span className="text-sm font-semibold tabular-nums">{n + 1}</span>;
}

function Pulse() {
  return (
    <m.span
      className="absolute inset-0 rounded-full bg-accent/30"
      initial={{ scale: 1, opacity: 0.7 }}
      animate={{ scale: 1.7, opacity: 0 }}
      transition={{ duration: 1.4, repeat: Number.POSITIVE_INFINITY, ease: "easeOut" }}
    />
  );
}

/** The line between two stations; a spark runs along it while the second one works. */
function Link({ flowing, reached }: { flowing: boolean; reached: boolean }) {
  return (
    <li
      role="presentation"
      aria-hidden="true"
      className="relative ml-[17px] h-3 w-0.5 md:mt-[17px] md:ml-0 md:h-0.5 md:w-auto md:min-w-2 md:flex-1"
    >
      <span className="absolute inset-0 rounded bg-edge" />
      <m.span
        className="absolute inset-0 origin-top rounded bg-accent md:origin-left"
        initial={false}
        animate={{ opacity: reached ? 1 : 0 }}
      />
      {flowing && (
        <m.span
          className="absolute top-1/2 hidden size-2 -translate-y-1/2 rounded-full bg-accent md:block"
          initial={{ left: "0%", opacity: 0 }}
          animate={{ left: "100%", opacity: [0, 1, 0] }}
          transition={{ duration: 1.1, repeat: Number.POSITIVE_INFINITY, ease: "easeInOut" }}
        />
      )}
    </li>
  );
}
