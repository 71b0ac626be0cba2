import { Component, type ReactNode } from "react";
import { Problem } from "../api/client";
import { Failure } from "./Failure";

/** Says so where a part of the page cannot be drawn, in place of an empty page. */
export class Boundary extends Component<{ children: ReactNode }, { error: unknown }> {
  override state = { error: null };

  static getDerivedStateFromError(error: unknown) {
    return { error };
  }

  override render() {
    if (this.state.error === null) return this.props.children;
    const problem = new Problem(
      "The page cannot show this.",
      "Reload it; the analysis itself is kept by the service. If it happens again, report it with these words.",
      "",
      0,
      String(this.state.error),
    );
    return (
      <main className="px-4 py-8">
        <Failure problem={problem} name="" onAgain={() => location.reload()} onRestart={() => location.assign("/")} />
      </main>
    );
  }
}
