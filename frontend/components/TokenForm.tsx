import { useId, useState } from "react";
import { token } from "../lib/token";
import { Heading } from "./Heading";

/** Asks for the token of a guarded service. */
export function TokenForm({ onKept }: { onKept: () => void }) {
  const [word, setWord] = useState("");
  const field = useId();
  const wrong = token.read() !== "";
  return (
    <section className="card mx-auto max-w-md p-5 sm:p-7">
      <Heading className="text-xl font-semibold">This service asks for a token</Heading>
      <p className="mt-2 text-sm text-soft">
        {wrong && <span role="alert">The one that was given is not the right one. </span>}Whoever runs the service can
        tell you. It is kept until this tab is closed.
      </p>
      <form
        className="mt-5 flex flex-col gap-3"
        onSubmit={(event) => {
          event.preventDefault();
          token.keep(word.trim());
          onKept();
        }}
      >
        <label htmlFor={field} className="text-sm font-medium">
          Token
        </label>
        <input
          id={field}
          type="password"
          autoComplete="off"
          required
          value={word}
          onChange={(event) => setWord(event.target.value)}
          className="min-h-11 rounded-lg border border-edge-strong bg-card px-3"
        />
        <button type="submit" className="button-strong">
          Go on
        </button>
      </form>
    </section>
  );
}
