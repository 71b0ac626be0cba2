import { useEffect, useRef } from "react";
import { type Detector, useDetector, type View } from "../hooks/useDetector";
import { type Service, useService } from "../hooks/useService";
import { useSimulation } from "../hooks/useSimulation";
import { confidence } from "../lib/format";
import { inWords, running } from "../lib/stages";
import { Dropzone } from "./Dropzone";
import { Failure } from "./Failure";
import { Frame } from "./Frame";
import { Heading } from "./Heading";
import { History } from "./History";
import { Icon } from "./Icon";
import { Pipeline } from "./Pipeline";
import { Result } from "./Result";
import { TokenForm } from "./TokenForm";
import { Uploading } from "./Uploading";
import { Working } from "./Working";

/** From a video to a verdict. With `simulate`, the animation of the pipeline alone: it asks nobody, so it has no verdict to show. */
export function DeepfakeDetector({ simulate }: { simulate: boolean }) {
  return simulate ? <Simulation /> : <Live />;
}

function Live() {
  const service = useService();
  const detector = useDetector(service.limits);
  const { view } = detector;
  useTitle(view);
  useNoDrop();
  const denied = view.at === "failed" ? view.problem.status === 401 : service.problem?.status === 401;
  return (
    <Frame model={service.model}>
      <p role="status" className="sr-only" data-testid="announcement">
        {announcement(view)}
      </p>
      {denied ? (
        <TokenForm
          key={String(service.problem)}
          onKept={() => {
            service.ask();
            if (view.at === "failed") (view.again ?? detector.restart)();
          }}
        />
      ) : (
        <Stage view={view} detector={detector} service={service} />
      )}
    </Frame>
  );
}

function Stage({ view, detector, service }: { view: View; detector: Detector; service: Service }) {
  const moved = useRef(false);
  if (view.at !== "start") moved.current = true;
  switch (view.at) {
    case "start":
      return <Start service={service} opened={!moved.current} onChoose={detector.choose} />;
    case "uploading":
      return <Uploading file={view.file} sent={view.sent} total={view.total} onCancel={detector.cancel} />;
    case "working":
      return <Working {...view} />;
    case "failed":
      return <Failure problem={view.problem} name={view.name} onAgain={view.again} onRestart={detector.restart} />;
    case "done":
      return (
        <Result
          key={view.id}
          dossier={view.dossier}
          demo={service.model?.demo ?? false}
          file={detector.fileOf(view.id)}
          onAttach={(file) => detector.attach(view.id, file)}
          onRestart={detector.restart}
          onRemove={() => detector.remove(view.id)}
        />
      );
  }
}

interface StartProps {
  service: Service;
  /** The page has just been opened: it takes no focus. */
  opened: boolean;
  onChoose: Detector["choose"];
}

function Start({ service, opened, onChoose }: StartProps) {
  return (
    <div className="mx-auto max-w-4xl">
      <Heading className="text-2xl font-semibold tracking-tight sm:text-3xl" quiet={opened}>
        Is this video forged?
      </Heading>
      <p className="mt-2 max-w-prose text-soft">
        Face and voice are looked at apart and together. You get a verdict, how sure it is, the branches it rests on,
        and the seconds that gave rise to it.
      </p>
      {service.problem && (
        <p role="alert" className="mt-5 flex items-start gap-2 rounded-lg bg-unsure-wash px-4 py-3 text-sm">
          <Icon name="cloud" className="mt-px size-5 text-unsure" />
          <span>
            <span className="font-medium">{service.problem.title}</span> {service.problem.cure} This page keeps trying.
          </span>
        </p>
      )}
      <div className="mt-6">
        <Dropzone limits={service.limits} onChoose={onChoose} />
      </div>
      <History />
      <section className="mt-10" aria-labelledby="course">
        <h2 id="course" className="text-lg font-semibold">
          What happens to a video
        </h2>
        <div className="mt-5">
          <Pipeline states={null} />
        </div>
      </section>
    </div>
  );
}

function Simulation() {
  const seen = useSimulation(true);
  const stage = seen.at(-1) ?? "queued";
  return (
    <Frame model={null}>
      <section className="card p-5 sm:p-7" data-testid="simulation">
        <p className="inline-block rounded-full border border-unsure px-3 py-0.5 text-sm font-semibold text-unsure">
          demo
        </p>
        <Heading className="mt-3 text-xl font-semibold">An animation, not an analysis</Heading>
        <p className="mt-1 text-soft">No video is read and no service is asked, so there is no verdict.</p>
        <div className="mt-8">
          <Pipeline states={running(seen)} detail={inWords(stage)} />
        </div>
      </section>
    </Frame>
  );
}

/** What a screen reader says when the state changes: stages and the outcome, not every percent. */
function announcement(view: View): string {
  switch (view.at) {
    case "start":
      return "";
    case "uploading":
      return `Uploading ${view.file.name}.`;
    case "working":
      if (view.lost) return "The service cannot be reached just now. This page keeps asking.";
      return view.status
        ? `${view.status.stageName}: ${inWords(view.status.stage)}.`
        : "Asking how the analysis stands.";
    case "failed":
      return `${view.problem.title} ${view.problem.cure}`;
    case "done": {
      const result = view.dossier.status.result;
      if (!result) return "";
      if (result.verdict === "Undetermined") return `Undetermined: no verdict. ${view.dossier.why ?? ""}`;
      return `Verdict: ${result.verdict}, confidence ${confidence(result.confidence / 100)}. ${view.dossier.why ?? ""}`;
    }
  }
}

/** A file that is dropped where none is taken does not replace the page, and with it an upload or a verdict. */
function useNoDrop(): void {
  useEffect(() => {
    const stay = (event: DragEvent) => {
      if (!event.dataTransfer?.types.includes("Files") || event.defaultPrevented) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = "none";
    };
    window.addEventListener("dragover", stay);
    window.addEventListener("drop", stay);
    return () => {
      window.removeEventListener("dragover", stay);
      window.removeEventListener("drop", stay);
    };
  }, []);
}

function useTitle(view: View): void {
  const words =
    view.at === "working"
      ? `${Math.round(view.status?.percent ?? 0)} % · `
      : view.at === "done"
        ? `${view.dossier.status.result?.verdict ?? ""} · `
        : view.at === "failed"
          ? "Error · "
          : "";
  useEffect(() => {
    document.title = `${words}Visavox`;
  }, [words]);
}
