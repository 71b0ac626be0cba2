/** The word that a guarded service asks for: kept for this tab's session only, never in the address or on the disk. */

const NAME = "visavox.token";

export const token = {
  read: (): string => sessionStorage.getItem(NAME) ?? "",
  keep: (word: string): void => sessionStorage.setItem(NAME, word),
};
