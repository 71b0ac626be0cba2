import type { ReactNode } from "react";
import type { Model } from "../api/types";
import { Icon } from "./Icon";

/** Head and foot of the page, and what has to be known of the model before anything is believed. */
export function Frame({ model, children }: { model: Model | null; children: ReactNode }) {
  return (
    <div className="mx-auto flex min-h-screen max-w-6xl flex-col px-4 sm:px-6">
      <header className="flex flex-wrap items-center justify-between gap-x-6 gap-y-1 border-b border-edge py-4">
        <a href="/" className="flex items-center gap-3 rounded">
          <img src="/favicon.svg" alt="" width="32" height="32" />
          <span className="text-lg font-semibold tracking-tight">Visavox</span>
          <span className="hidden border-l border-edge pl-3 text-sm text-soft sm:inline">Face against voice</span>
        </a>
        {model && (
          <p className="text-sm text-soft" data-testid="model">
            Model <span className="font-medium text-ink">{model.detector}</span>
            {model.branches.length > 1 && <>, {model.branches.length} branches</>}
          </p>
        )}
      </header>
      {model?.demo && (
        <p
          role="note"
          className="mt-4 flex items-start gap-2 rounded-lg border border-unsure/40 bg-unsure-wash px-4 py-3 text-sm"
        >
          <Icon name="alert" className="mt-px size-5 text-unsure" />
          <span>
            <strong className="font-semibold">Demo model.</strong> It was trained on synthetic clips. Its verdicts show
            how the service works, and say nothing about real videos.
          </span>
        </p>
      )}
      <main className="flex-1 py-6 sm:py-8">{children}</main>
      <footer className="border-t border-edge py-5 text-sm text-soft">
        A verdict is an estimate by a machine, not proof. Weigh it with the source of the video and with what else is
        known.
      </footer>
    </div>
  );
}
