import { useEffect, useMemo, useRef, useState } from "react";
import type { Analysis, Dossier } from "../api/types";
import { clock } from "../lib/format";
import { Icon } from "./Icon";
import { Lanes } from "./Lanes";
import { Reattach } from "./Reattach";

interface Props {
  dossier: Dossier;
  analysis: Analysis;
  file: File | undefined;
  onAttach: (file: File) => void;
}

const SHOWN = 12;

/** The video with its time line beneath; a click on a second, or on a flagged stretch, plays from there. */
export function Evidence({ dossier, analysis, file, onAttach }: Props) {
  const video = useRef<HTMLVideoElement>(null);
  const playhead = useRef<HTMLSpanElement>(null);
  const [unplayable, setUnplayable] = useState(false);
  const [all, setAll] = useState(false);
  const place = useObjectURL(file);
  const seconds = lengthOf(dossier, analysis);
  const playable = place !== null && !unplayable;
  usePlayhead(video, playhead, seconds, playable);

  const seek = (second: number, play: boolean) => {
    if (!video.current) return;
    video.current.currentTime = second;
    if (play) void video.current.play().catch(() => undefined);
  };
  const flagged = all ? analysis.flagged : analysis.flagged.slice(0, SHOWN);
  const hasTimeline = analysis.timeline.length > 0 || analysis.branches.some((branch) => branch.timeline.length > 0);
  return (
    <section className="card overflow-hidden" aria-labelledby="evidence">
      {playable ? (
        // biome-ignore lint/a11y/useMediaCaption: the video comes from the visitor, as it is
        <video
          ref={video}
          src={place}
          controls
          playsInline
          preload="metadata"
          aria-label={dossier.fileName}
          className="block max-h-[60vh] w-full bg-black"
          onError={() => setUnplayable(true)}
          onLoadedMetadata={(event) => setUnplayable(event.currentTarget.videoWidth === 0)} // sound alone is no video
        />
      ) : (
        <div className="grid place-items-center border-b border-edge bg-well px-5 py-8 text-center text-sm text-soft">
          {place ? (
            <p className="max-w-sm">
              <Icon name="film" className="mx-auto mb-2 size-7" />
              This browser does not play this kind of file; the service has read it all the same.
            </p>
          ) : (
            <Reattach sha256={dossier.sha256} bytes={dossier.bytes} onAttach={onAttach} />
          )}
        </div>
      )}
      <div className="p-5 sm:p-6">
        <h2 id="evidence" className="text-lg font-semibold">
          Over the seconds of the video
        </h2>
        {hasTimeline ? (
          <div className="mt-3">
            <Lanes
              analysis={analysis}
              seconds={seconds}
              onSeek={playable ? (second) => seek(second, false) : null}
              {...(playable ? { playhead } : {})}
            />
          </div>
        ) : (
          <p className="mt-2 text-sm text-soft">This detector judges the video as a whole; it has no time line.</p>
        )}
        {flagged.length > 0 && (
          <>
            <h3 className="mt-4 text-sm font-semibold">Flagged seconds</h3>
            <ul className="mt-2 flex flex-wrap gap-2" data-testid="flagged">
              {flagged.map(([start, end]) => (
                <li key={start}>
                  {playable ? (
                    <button
                      type="button"
                      className="inline-flex min-h-9 items-center gap-1.5 rounded-lg border border-fake/50 bg-fake-wash px-2.5 text-sm tabular-nums hover:border-fake"
                      onClick={() => seek(start, true)}
                    >
                      <Icon name="play" className="size-4 text-fake" />
                      <span className="sr-only">Play from </span>
                      {clock(start)} – {clock(end)}
                    </button>
                  ) : (
                    <span className="inline-flex min-h-9 items-center rounded-lg border border-fake/50 bg-fake-wash px-2.5 text-sm tabular-nums">
                      {clock(start)} – {clock(end)}
                    </span>
                  )}
                </li>
              ))}
              {!all && analysis.flagged.length > SHOWN && (
                <li>
                  <button
                    type="button"
                    className="min-h-9 px-2 text-sm font-medium text-accent underline"
                    onClick={() => setAll(true)}
                  >
                    Show all {analysis.flagged.length}
                  </button>
                </li>
              )}
            </ul>
          </>
        )}
        {analysis.timeline.length > 0 && flagged.length === 0 && (
          <p className="mt-3 text-sm text-soft">No second reaches the threshold of {analysis.threshold.toFixed(2)}.</p>
        )}
      </div>
    </section>
  );
}

/** Length of the video, or where it is not known the end of what was judged. */
function lengthOf(dossier: Dossier, analysis: Analysis): number {
  const ends = [analysis.timeline, ...analysis.branches.map((branch) => branch.timeline)]
    .flat()
    .map((part) => part.end);
  return dossier.media?.seconds || Math.max(0.1, ...ends);
}

/** Address of a file for as long as it is shown. */
function useObjectURL(file: File | undefined): string | null {
  const place = useMemo(() => (file ? URL.createObjectURL(file) : null), [file]);
  useEffect(() => () => void (place && setTimeout(() => URL.revokeObjectURL(place), 10_000)), [place]);
  return place;
}

/** Move the playhead with the video, on every frame that is drawn while it plays. */
function usePlayhead(
  video: { current: HTMLVideoElement | null },
  playhead: { current: HTMLSpanElement | null },
  seconds: number,
  playable: boolean,
): void {
  useEffect(() => {
    const player = video.current;
    if (!playable || !player) return;
    let frame = 0;
    const draw = () => {
      if (playhead.current) playhead.current.style.left = `${Math.min(100, (100 * player.currentTime) / seconds)}%`;
      if (!player.paused && !player.ended) frame = requestAnimationFrame(draw);
    };
    const events = ["play", "seeked", "timeupdate", "loadedmetadata"] as const;
    for (const event of events) player.addEventListener(event, draw);
    return () => {
      cancelAnimationFrame(frame);
      for (const event of events) player.removeEventListener(event, draw);
    };
  }, [video, playhead, seconds, playable]);
}
