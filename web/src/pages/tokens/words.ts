// What the routes of the token lens answer, and how numbers of surprise are shown.
import type { Token } from "../../ui/token";

export interface Expected {
  entropy: number;
  top: [id: number, logprob: number][];
  logprob: number | null;
  rank: number | null;
}

export interface Lens {
  model: string;
  ids: number[];
  tokens: Token[];
  expected: Expected[];
  spelled: Record<string, string>;
  decodes_with: string | null;
}

/** Bits from which each shade begins; the first shade is below the first. */
export const SHADES = [0.5, 1, 2, 4, 7, 11];

export function shade(bits: number): number {
  return SHADES.filter((from) => bits >= from).length;
}

/** How unexpected a token was: -log2 of its probability, 0 for one that was certain. */
export function surprise(logprob: number): number {
  return Math.max(0, -logprob / Math.LN2);
}
