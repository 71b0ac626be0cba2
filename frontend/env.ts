/** What may stand in the environment of a build: everything named VITE_* ends in the page, where anybody can read it. */

const SECRET = /KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL/;

/** Throw where a variable that would be built into the page is named like a secret. */
export function refuseKeys(environment: Record<string, string | undefined>): void {
  const found = Object.keys(environment).filter((name) => name.startsWith("VITE_") && SECRET.test(name));
  if (found.length > 0) {
    throw new Error(
      `${found.join(", ")}: whatever is called VITE_* is built into the page and public, so a key there is given away. ` +
        "Remove it from the environment and from .env files; keep keys on the server.",
    );
  }
}
