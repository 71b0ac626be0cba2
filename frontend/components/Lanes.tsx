import { type MouseEvent, type Ref, useId, useMemo } from "react";
import type { Analysis, Segment } from "../api/types";
import { nameOf } from "../lib/branches";
import { clock } from "../lib/format";
import { curve, markEvery, paths } from "../lib/timeline";

const COUNT = 240;

interface Props {
  analysis: Analysis;
  /** Length of the video. */
  seconds: number;
  /** Moves along the lanes while the video plays; absent where there is no video. */
  playhead?: Ref<HTMLSpanElement>;
  onSeek: ((second: number) => void) | null;
}

/** P(fake) over the seconds of the video: of the clip and of each branch that says something over time. */
export function Lanes({ analysis, seconds, playhead, onSeek }: Props) {
  const alone = analysis.branches.length === 1 && analysis.timeline.length > 0;
  const lanes = [
    { name: "Clip", segments: analysis.timeline },
    ...analysis.branches.map((branch) => ({ name: nameOf(branch.name), segments: branch.timeline })),
  ].filter((lane, n) => lane.segments.length > 0 && !(n === 1 && alone)); // a single branch says what the clip does
  if (lanes.length === 0) return null;
  const seek = (event: MouseEvent<HTMLElement>) => {
    const box = event.currentTarget.getBoundingClientRect();
    onSeek?.(seconds * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
  };
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the mouse's way; keys have the video's own slider and the flagged seconds
    // biome-ignore lint/a11y/useKeyWithClickEvents: as above
    <div className={`relative ${onSeek ? "cursor-pointer" : ""}`} onClick={seek} data-testid="timeline">
      {lanes.map((lane, n) => (
        <Lane
          key={lane.name}
          {...lane}
          seconds={seconds}
          tall={n === 0}
          threshold={analysis.threshold}
          flagged={lane.segments === analysis.timeline ? analysis.flagged : []}
        />
      ))}
      {playhead && (
        <span
          ref={playhead}
          aria-hidden="true"
          className="pointer-events-none absolute top-4 bottom-5 left-0 -ml-px w-0.5 rounded bg-ink"
        />
      )}
      <Marks seconds={seconds} />
    </div>
  );
}

interface LaneProps {
  name: string;
  segments: Segment[];
  seconds: number;
  tall: boolean;
  threshold: number;
  flagged: [number, number][];
}

function Lane({ name, segments, seconds, tall, threshold, flagged }: LaneProps) {
  const fill = useId();
  const drawn = useMemo(() => paths(curve(segments, seconds, COUNT)), [segments, seconds]);
  const peak = segments.reduce((best, segment) => (segment.probability > best.probability ? segment : best));
  const cut = `${(100 * (1 - threshold)).toFixed(2)}%`;
  return (
    <div className="mb-2">
      <p className="text-xs font-medium text-soft">{name}</p>
      <svg
        role="img"
        aria-label={`${name}: P(fake) over ${clock(seconds)}, highest ${peak.probability.toFixed(2)} at ${clock(peak.start)}.`}
        viewBox={`0 0 ${COUNT} 100`}
        preserveAspectRatio="none"
        className={`mt-1 block w-full rounded bg-well ${tall ? "h-24" : "h-12"}`}
      >
        <defs>
          <linearGradient id={fill} gradientUnits="userSpaceOnUse" x1="0" y1="0" x2="0" y2="100">
            <stop offset={cut} className="[stop-color:var(--fake)]" />
            <stop offset={cut} className="[stop-color:var(--curve)]" />
          </linearGradient>
        </defs>
        {flagged.map(([start, end]) => (
          <rect
            key={start}
            data-testid="flagged-stretch"
            x={(COUNT * start) / seconds}
            width={Math.max(1, (COUNT * (end - start)) / seconds)}
            y="0"
            height="100"
            className="fill-fake-wash"
          />
        ))}
        {drawn.map(({ line, area }) => (
          <g key={line}>
            <path d={area} fill={`url(#${fill})`} fillOpacity="0.28" />
            <path d={line} fill="none" stroke={`url(#${fill})`} strokeWidth="2" vectorEffect="non-scaling-stroke" />
          </g>
        ))}
        <line
          x1="0"
          x2={COUNT}
          y1={100 * (1 - threshold)}
          y2={100 * (1 - threshold)}
          className="stroke-edge-strong"
          strokeDasharray="3 4"
          vectorEffect="non-scaling-stroke"
        />
      </svg>
    </div>
  );
}

function Marks({ seconds }: { seconds: number }) {
  const every = markEvery(seconds, 6);
  const marks = Array.from({ length: Math.floor(seconds / every) + 1 }, (_, n) => n * every);
  return (
    <div className="relative h-4 text-[11px] text-soft tabular-nums" aria-hidden="true">
      {marks
        .filter((mark) => mark === 0 || mark < 0.96 * seconds)
        .map((mark) => (
          <span
            key={mark}
            className={`absolute ${mark === 0 ? "" : "-translate-x-1/2"}`}
            style={{ left: `${(100 * mark) / seconds}%` }}
          >
            {clock(mark).replace(/\.0$/, "")}
          </span>
        ))}
    </div>
  );
}
