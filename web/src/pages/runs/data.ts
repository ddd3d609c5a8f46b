// What the routes of runs answer, how an address names runs, and which runs of a list are shown in what order.

export interface Run {
  name: string;
  stage: string | null;
  step: number;
  steps: number | null;
  train_loss: number | null;
  validation_loss: number | null;
  best_validation_loss: number | null;
  tokens: number | null;
  seconds: number | null;
  tokens_per_second: number | null;
  parameters: number | null;
  flops_a_token: number | null;
  checkpoint: string | null;
  changed: number;
}

export interface Broken {
  row: number;
  text: string;
}

export interface WholeRun extends Run {
  recipe: string;
  report: string | null;
  checkpoints: { name: string; bytes: number; latest: boolean; best: boolean }[];
  samples: { step: number; prompt: string; text: string }[];
  events: ({ event: string; time?: number } & Record<string, unknown>)[];
  broken_events: Broken[];
}

export interface Points {
  x: number[];
  y: number[];
}

export interface Curve extends Points {
  metric: string;
  rows: number;
  smooth: Points | null;
}

export interface Drawn {
  name: string;
  metrics: string[];
  curves: Curve[];
  validations: Points;
  broken: Broken[];
}

export const AXES = ["step", "tokens", "seconds", "flops"] as const;
export type Axis = (typeof AXES)[number];
export const COLUMNS = ["name", "stage", "step", "train_loss", "validation_loss", "tokens_per_second", "parameters", "tokens", "changed"] as const;
export type Column = (typeof COLUMNS)[number];
/** As many as the palette has colours. */
export const NEWEST = 8;
/** Points of all curves of a chart together: more cannot be told apart on a screen. */
const MOST_POINTS = 60_000;
/** Runs of the first two requests, which are to be there at once, and of each further one. */
const FIRST = 5;
const FURTHER = 25;

/** Runs in an address, joined by commas; what would be mistaken for a comma is written as in any address. */
export function joinNames(names: readonly string[]): string {
  return names.map((name) => name.replaceAll("%", "%25").replaceAll(",", "%2C")).join(",");
}

export function splitNames(text: string): string[] {
  return text.split(",").filter(Boolean).map(decodeURIComponent);
}

export function pointsFor(runs: number): number {
  return Math.round(Math.min(2000, Math.max(200, MOST_POINTS / Math.max(1, runs))));
}

/** The addresses that together answer the curves of some runs. */
export function curveAddresses(names: readonly string[], words: Record<string, string | number>): string[] {
  const query = new URLSearchParams(Object.entries<string | number>({ points: pointsFor(names.length), ...words }).filter(([, value]) => value !== "").map(([key, value]) => [key, String(value)]));
  const found: string[] = [];
  for (let from = 0; from < names.length; ) {
    const part = names.slice(from, from + (found.length < 2 ? FIRST : FURTHER));
    found.push(`/studio/runs/curves?runs=${encodeURIComponent(joinNames(part))}&${query}`);
    from += part.length;
  }
  return found;
}

/** The runs whose name holds all words of a text, of a stage, in an order: "-step" is by step, the largest first. */
export function listed(runs: readonly Run[], text: string, stage: string, order: string): Run[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = runs.filter((run) => (!stage || run.stage === stage) && words.every((word) => run.name.toLowerCase().includes(word)));
  const down = order.startsWith("-");
  const column = (down ? order.slice(1) : order) as Column;
  if (!COLUMNS.includes(column)) return found;
  const sign = down ? -1 : 1;
  return found.sort((one, other) => {
    const [a, b] = [one[column], other[column]];
    if (a === null || b === null) return Number(a === null) - Number(b === null); // what is not known comes last
    return sign * (typeof a === "string" ? a.localeCompare(b as string, "en", { numeric: true }) : a - (b as number));
  });
}

/** The runs that a chart shows: those of the address, "*" for all that are listed, none given for the newest. */
export function chosenOf(given: string | null, runs: readonly Run[], shown: readonly Run[]): string[] {
  if (given === null) return runs.slice(0, NEWEST).map((run) => run.name);
  if (given === "*") return shown.map((run) => run.name);
  const known = new Set(runs.map((run) => run.name));
  return splitNames(given).filter((name) => known.has(name));
}

/** The place in sorted numbers of the one that is nearest. */
export function nearest(sorted: readonly number[], value: number): number {
  let [low, high] = [0, sorted.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low > 0 && value - sorted[low - 1]! < sorted[low]! - value ? low - 1 : low;
}

/** 12 digits would be noise: 3.28342, 0.00012, 7,495,680 */
export function value(number: number | null | undefined): string {
  if (number === null || number === undefined) return "–";
  if (Number.isInteger(number)) return number.toLocaleString("en-US");
  const size = Math.abs(number);
  return size >= 1e-3 && size < 1e6 ? String(Number(number.toPrecision(5))) : number.toExponential(2);
}
