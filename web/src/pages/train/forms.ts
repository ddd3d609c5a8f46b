// What a form of a recipe is, and what is done with what a person puts into it; nothing here draws anything.

export interface FieldOf {
  key: string;
  group: string;
  basic: boolean;
  help: string;
  required: boolean;
  default: unknown;
  type: "text" | "integer" | "number" | "boolean" | "choice" | "lines" | "data" | "checkpoint" | "tokenizer" | "sources" | "yaml";
  choices?: (string | number)[];
  gt?: number;
  ge?: number;
  lt?: number;
  le?: number;
}

export interface Form {
  verb: string;
  help: string;
  fields: FieldOf[];
  groups: Record<string, string>;
  choices: { checkpoint: string[]; data: string[]; tokenizer: string[] };
}

export interface Source {
  path: string;
  weight?: number;
  name?: string;
}

/** By dotted key, and only what somebody set. */
export type Values = Record<string, unknown>;

/** What was typed as a number where it is one, else as it is, so that the server can say what is wrong with it. */
export function typedNumber(text: string): string | number {
  const trimmed = text.trim();
  return trimmed !== "" && Number.isFinite(Number(trimmed)) ? Number(trimmed) : text;
}

export function withValue(values: Values, key: string, value: unknown): Values {
  const next = { ...values };
  if (value === "" || value === null || (Array.isArray(value) && value.length === 0)) delete next[key];
  else next[key] = value;
  return next;
}

/** A path alone is written as such, several sources with their weights as a list. */
export function asSources(value: unknown): Source[] {
  if (typeof value === "string") return [{ path: value }];
  return Array.isArray(value) ? (value as (Source | string)[]).map((one) => (typeof one === "string" ? { path: one } : one)) : [];
}

export function fromSources(sources: Source[]): unknown {
  const [first] = sources;
  if (sources.length === 1 && first && (first.weight ?? 1) === 1 && !first.name) return first.path;
  return sources;
}

/** Which field is to show a fault: that of its key, or of the key that it lies inside; "" where none has it. */
export function placeOf(key: string, fields: FieldOf[]): string {
  const parts = key.split(".");
  for (let length = parts.length; length > 0; length -= 1) {
    const found = parts.slice(0, length).join(".");
    if (fields.some((field) => field.key === found)) return found;
  }
  return "";
}

/** Faults by the field that shows them; until somebody asked for more, a field that is still empty is no fault. */
export function shownProblems(problems: Record<string, string>, fields: FieldOf[], values: Values, tried: boolean): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [key, told] of Object.entries(problems)) {
    const place = placeOf(key, fields);
    if (tried || (place !== "" && place in values) || (place === "" && key !== "")) found[place] ??= told;
  }
  return found;
}

/** The groups of folded fields, in order; the settings of a method of tuning only where it is the chosen one. */
export function foldedGroups(form: Form, values: Values): [group: string, fields: FieldOf[]][] {
  const method = String(values["tune.method"] ?? "full").replaceAll("-", "_");
  const found = new Map<string, FieldOf[]>();
  for (const field of form.fields) {
    if (field.basic) continue;
    if (field.group.startsWith("tune.") && field.group !== `tune.${method}`) continue;
    found.set(field.group, [...(found.get(field.group) ?? []), field]);
  }
  return [...found];
}

/** "> 0 · ≤ 1" */
export function rangeOf(field: FieldOf): string {
  const parts = [
    ["gt", ">"],
    ["ge", "≥"],
    ["lt", "<"],
    ["le", "≤"],
  ].flatMap(([name, sign]) => (field[name as "gt"] === undefined ? [] : [`${sign} ${field[name as "gt"]}`]));
  return parts.join(" · ");
}

export function shownDefault(value: unknown): string {
  if (value === null || value === undefined || value === "" || (Array.isArray(value) && value.length === 0)) return "";
  return Array.isArray(value) ? value.join(", ") : typeof value === "object" ? JSON.stringify(value) === "{}" ? "" : JSON.stringify(value) : String(value);
}
