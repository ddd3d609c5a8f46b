// What the anatomy's route answers, and its parameters gathered into the parts of a drawing.

export interface Parameter {
  name: string;
  shape: number[];
  numbers: number;
  dtype: string;
  bytes: number;
}

export interface Layer {
  attention: { heads: number; kv_heads: number; head_dim: number; window: number | null; softcap: number | null; rotary: number | null; head_norms: boolean; sinks: boolean; alibi: boolean; latent: number | null };
  feed_forward: { hidden: number; activation: string; experts?: number; taken?: number };
  placement: string;
  norm: string;
  cross: boolean;
}

export interface Outline {
  vocab_size: number;
  dim: number;
  context: number;
  tied: boolean;
  positions: string;
  norm: string | null;
  causal: boolean;
  head: boolean;
  recurrent: { cell: string; num_layers: number } | null;
  shared_layers: boolean;
  layers: Layer[];
  encoder: Outline | null;
}

export interface Anatomy extends Outline {
  family: string;
  adapter: boolean;
  numbers: number;
  active: number;
  bytes: number;
  flops_per_token: number;
  parameters: Parameter[];
  formats: { format: string; bytes: number }[];
  cache: { format: string; bytes: number; offered: boolean }[];
  state_bytes: number;
}

export interface Part {
  /** "token_embedding", "blocks.3", "encoder.blocks.0": the beginning of its parameters' names. */
  name: string;
  /** Of a block its number, and the layer that describes it. */
  number: number | null;
  layer: Layer | null;
  parameters: Parameter[];
  numbers: number;
  bytes: number;
}

const REPEATED = /^((?:encoder\.|decoder\.)?(?:blocks|recurrent))\.(\d+)\./;

/** Gather parameters into parts, in the order in which they stand in the model. */
export function partsOf(anatomy: Anatomy): Part[] {
  const found = new Map<string, Part>();
  for (const parameter of anatomy.parameters) {
    const block = REPEATED.exec(parameter.name);
    const name = block ? `${block[1]}.${block[2]}` : parameter.name.replace(/\.(weight|bias)$/, "");
    const number = block ? Number(block[2]) : null;
    const layers = name.startsWith("encoder.") ? anatomy.encoder!.layers : anatomy.layers;
    const part = found.get(name) ?? { name, number, layer: number === null ? null : (layers[number] ?? null), parameters: [], numbers: 0, bytes: 0 };
    part.parameters.push(parameter);
    part.numbers += parameter.numbers;
    part.bytes += parameter.bytes;
    found.set(name, part);
  }
  return [...found.values()];
}
