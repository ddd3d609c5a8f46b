// What the routes of this page answer.

export interface Loaded {
  as: string;
  state: "loading" | "ready" | "draining" | "failed";
  kept: boolean;
  answering: number;
  failure: string;
}

export interface Model {
  name: string;
  family: string;
  stage: string;
  step: number | null;
  adapter: boolean;
  run: boolean;
  chats: boolean;
  parameters: number | null;
  dtype: string | null;
  bits: number | null;
  bytes: number;
  sha256: string | null;
  sealed: boolean;
  created: number;
  metrics: Record<string, number>;
  fault: string;
  loaded: Loaded[];
}

export interface Node {
  id: string;
  kind: "data" | "tokenizer" | "model" | "gone" | "served";
  label: string;
  note?: string;
  path?: string;
  files?: number;
  sha256?: string;
  vocabulary?: number;
  of?: string;
}

export interface Edge {
  from: string;
  to: string;
  /** Whether the very weights are still there that the model was made of. */
  exact: boolean;
  role: string;
}

export interface Graph {
  nodes: Node[];
  edges: Edge[];
}

export interface Listing {
  models: Model[];
  graph: Graph;
  most_loaded: number;
}

export interface FileRow {
  name: string;
  bytes: number;
  sha256: string | null;
}

export interface Step {
  name: string;
  step: number;
  bytes: number;
  created: number;
  newest: boolean;
  best: boolean;
}

export interface Needed {
  kind: "child" | "adapter" | "inside" | "training" | "loaded" | "merge";
  name: string;
}

export interface Detail extends Model {
  files: FileRow[];
  steps: Step[];
  all_bytes: number;
  recipe: Record<string, unknown> | null;
  merge: Record<string, unknown> | null;
  tokens: number | null;
  base: string | null;
  needed_by: Needed[];
  may_change: boolean;
}

export interface Merge {
  id: string;
  adapter: string;
  out: string;
  state: "running" | "done" | "failed";
  started: number;
  seconds: number;
  result: { largest_logit_difference?: number; largest_logit?: number; parameters?: number; method?: string };
  error: string;
}

export interface DataFiles {
  id: string;
  path: string;
  files: { file: string; sha256: string; name: string | null; same: boolean | null }[];
  models: string[];
}
