// How answers are asked for: the settings of the panel, kept in this browser, and what a request is made of.
import { useKept } from "../../use";

export interface Choice {
  name: string;
  family: string | null;
  parameters: number | null;
  max_seq_len: number | null;
  chat: boolean;
  adapter: boolean;
  fault: string | null;
}

export interface Settings {
  temperature: number;
  top_p: number;
  top_k: number;
  min_p: number;
  repetition_penalty: number;
  max_tokens: number;
  /** As it was typed; "" is none. */
  seed: string;
  /** A JSON list, as it was typed. */
  tools: string;
}

export const DEFAULTS: Settings = { temperature: 0.7, top_p: 0.95, top_k: 0, min_p: 0, repetition_penalty: 1, max_tokens: 512, seed: "", tools: "" };
export const WEIGHTS = ["", "bf16", "int8", "int4"];

export function useSettings() {
  const [kept, keep] = useKept<Partial<Settings>>("chat.settings", {});
  return [{ ...DEFAULTS, ...kept }, keep] as const;
}

/** The tools of a text; null where it is no JSON list. */
export function toolsIn(text: string): unknown[] | null {
  if (!text.trim()) return [];
  try {
    const found: unknown = JSON.parse(text);
    return Array.isArray(found) ? found : null;
  } catch {
    return null;
  }
}

/** What a request says of how the answer is written. */
export function asked(settings: Settings): Record<string, unknown> {
  const { seed, tools, ...numbers } = settings;
  const functions = toolsIn(tools);
  return { ...numbers, ...(/^-?\d+$/.test(seed.trim()) ? { seed: Number(seed) } : {}), ...(functions?.length ? { tools: functions } : {}) };
}

/** The model that answers: chosen in the address, or the one of this chat's last answer, or the last that was chosen anywhere. */
export function pick(choices: Choice[], ...wishes: (string | null | undefined)[]): string {
  const fit = choices.filter((one) => one.fault === null);
  const known = (name: string) => fit.some((one) => one.name === name.split("@")[0]);
  return wishes.find((name) => name && known(name)) ?? (fit.find((one) => one.chat) ?? fit[0])?.name ?? "";
}
