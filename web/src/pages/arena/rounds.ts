// Rounds as the server tells them, and what is reckoned from them: no part of the page draws here.

export type Letter = "a" | "b" | "c" | "d";
export type Winner = Letter | "tie" | "both_bad";

export interface Side {
  side: Letter;
  answer: string | null;
  finish: string | null;
  /** There once the round is voted on. */
  model?: string;
}

export interface Round {
  id: string;
  prompt: string;
  sampling: { temperature?: number; top_p?: number; max_tokens?: number; seed?: number };
  created: number;
  sides: Side[];
  vote: { winner: Winner; reason: string; created: number } | null;
}

export interface Overview {
  models: string[];
  weights: string[];
  most: number;
  rounds: { id: string; prompt: string; created: number; voted: boolean }[];
}

export interface Standing {
  name: string;
  score: number;
  low: number;
  high: number;
  rounds: number;
  wins: number;
  ties: number;
  losses: number;
}

export interface Board {
  standings: Standing[];
  wins: number[][];
  counts: { votes: number; decided: number; ties: number; both_bad: number };
  side: { correct: number; total: number; share: number; low: number; high: number; chance: number; leans: "first" | "other" | "" };
  pairs: { rounds: number; chats: number; tie: number; both_bad: number; same_or_empty: number };
}

export interface Said {
  side: Letter;
  text: string;
  finish?: string;
}

export interface Written {
  text: string;
  finish: string | null;
}

export type Answers = Partial<Record<Letter, Written>>;

/** Add what the server said of one side. */
export function heard(answers: Answers, said: Said): Answers {
  const old = answers[said.side];
  return { ...answers, [said.side]: { text: (old?.text ?? "") + said.text, finish: said.finish ?? null } };
}

/** What the store has of a round's answers. */
export function stored(round: Round): Answers {
  return Object.fromEntries(round.sides.filter((side) => side.answer !== null).map((side) => [side.side, { text: side.answer!, finish: side.finish ?? "stop" }]));
}

export function complete(round: Round, answers: Answers): boolean {
  return round.sides.every((side) => answers[side.side]?.finish != null);
}

export interface Contestant {
  model: string;
  /** "": as they are stored. */
  weights: string;
}

export function nameOf(one: Contestant): string {
  return one.weights ? `${one.model}@${one.weights}` : one.model;
}

/** "runs/a@int8" -> the model runs/a with weights of int8. */
export function named(name: string): Contestant {
  const [model = "", weights = ""] = name.split("@");
  return { model, weights };
}

/** Contestants that may be begun with: those kept that still exist, filled up to two with what else there is. */
export function contestants(kept: Contestant[], overview: Overview): Contestant[] {
  const found = kept.filter((one) => overview.models.includes(one.model) && (!one.weights || overview.weights.includes(one.weights))).slice(0, overview.most);
  while (found.length < 2) {
    const next = another(found, overview);
    if (!next) break;
    found.push(next);
  }
  return found;
}

/** A model that does not compete yet, or another form of the weights of one that does. */
export function another(there: Contestant[], overview: Overview): Contestant | null {
  const taken = new Set(there.map(nameOf));
  for (const weights of ["", ...[...overview.weights].reverse()])
    for (const model of overview.models) if (!taken.has(nameOf({ model, weights }))) return { model, weights };
  return null;
}

/** Where a value lies between the ends of a scale, in percent. */
export function percent(value: number, low: number, high: number): number {
  return high > low ? (100 * (value - low)) / (high - low) : 50;
}

/** The ends of a scale that holds all intervals. */
export function scale(standings: Standing[]): [number, number] {
  const low = Math.min(...standings.map((one) => one.low));
  const high = Math.max(...standings.map((one) => one.high));
  return [Math.floor(low / 50) * 50, Math.ceil(high / 50) * 50];
}
