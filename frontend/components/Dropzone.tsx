import { useEffect, useRef, useState } from "react";
import type { Limits } from "../api/types";
import { bytes, duration } from "../lib/format";
import { Icon } from "./Icon";

interface Props {
  limits: Limits | null;
  onChoose: (files: readonly File[]) => void;
}

/** A place to drop a video on, and a button that opens the file dialogue. A file dropped anywhere on the page counts. */
export function Dropzone({ limits, onChoose }: Props) {
  const input = useRef<HTMLInputElement>(null);
  const over = useDrop(onChoose);
  return (
    <div
      data-testid="dropzone"
      className={`card flex flex-col items-center gap-5 border-2 border-dashed px-5 py-10 text-center transition-colors sm:py-14 ${
        over ? "border-accent bg-accent-wash" : "border-edge-strong/50"
      }`}
    >
      <span className="grid size-14 place-items-center rounded-full bg-accent-wash text-accent">
        <Icon name="upload" className="size-7" />
      </span>
      <div>
        <p className="hidden text-lg font-medium sm:block">{over ? "Let go to analyse it" : "Drop a video here"}</p>
        <p className="text-lg font-medium sm:hidden">Choose a video to analyse</p>
        <p className="mt-1 text-sm text-soft" data-testid="limits">
          {limits ? (
            <>
              Up to {bytes(limits.maxBytes)} and {duration(limits.maxSeconds)}. One face that speaks gives the surest
              verdict.
            </>
          ) : (
            <>Asking the service what it takes …</>
          )}
        </p>
      </div>
      <button type="button" className="button-strong" onClick={() => input.current?.click()}>
        Choose a video
      </button>
      <input
        ref={input}
        type="file"
        className="hidden"
        aria-label="Video"
        accept={["video/*", ...(limits?.accept ?? [])].join(",")}
        onChange={(event) => {
          onChoose([...(event.target.files ?? [])]);
          event.target.value = ""; // the same file can be chosen again
        }}
      />
      {limits && (
        <p className="max-w-md text-xs text-soft">
          The service deletes the video {duration(limits.retentionMinutes * 60)} after its analysis, or at once when you
          delete it.
        </p>
      )}
    </div>
  );
}

/** Take files that are dropped on the window; returns whether one hovers over it. */
function useDrop(onChoose: (files: readonly File[]) => void): boolean {
  const [over, setOver] = useState(false);
  const choose = useRef(onChoose);
  choose.current = onChoose;
  useEffect(() => {
    const holds = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    const hover = (event: DragEvent) => {
      if (!holds(event)) return;
      event.preventDefault();
      if (event.dataTransfer) event.dataTransfer.dropEffect = "copy"; // the page itself refuses what is dropped elsewhere
      setOver(true);
    };
    const leave = (event: DragEvent) => {
      if (event.relatedTarget === null) setOver(false);
    };
    const drop = (event: DragEvent) => {
      if (!holds(event)) return;
      event.preventDefault();
      setOver(false);
      choose.current([...(event.dataTransfer?.files ?? [])]);
    };
    window.addEventListener("dragover", hover);
    window.addEventListener("dragleave", leave);
    window.addEventListener("drop", drop);
    return () => {
      window.removeEventListener("dragover", hover);
      window.removeEventListener("dragleave", leave);
      window.removeEventListener("drop", drop);
    };
  }, []);
  return over;
}
