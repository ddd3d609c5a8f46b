// What the routes of data answer.

export interface FileEntry {
  name: string;
  folder: string;
  bytes: number;
  modified: number;
}

export interface Files {
  files: FileEntry[];
  models: string[];
}

export interface Version {
  source: string;
  source_sha256: string;
  made: string;
  edits: Edit[];
  filters: Record<string, boolean | number> | null;
  rows_before: number;
  rows_after: number;
  left_out: Record<string, number>;
}

export interface About {
  name: string;
  bytes: number;
  modified: number;
  stamp: string;
  kind: string;
  format: string;
  sampled: number;
  fits: number;
  rows: number | null;
  about_rows: number | null;
  fault: string;
  version: Version | null;
}

export interface RowLine {
  row: number;
  state: "good" | "bad" | "empty";
  fault: string;
  text: string;
}

export interface RowPage {
  rows: RowLine[];
  ready: boolean;
  total: number | null;
  about: number | null;
  known: number;
}

export type Path = (string | number)[];

export interface RowText {
  path: Path;
  label: string;
  text: string;
}

export interface Message {
  role: string;
  content: string;
  reasoning_content: string | null;
  tool_calls: unknown[] | null;
}

export interface Row {
  row: number;
  raw: string;
  cut: boolean;
  format: string;
  fault: string;
  typed: ({ type: string; messages?: Message[]; tools?: unknown[] } & Record<string, unknown>) | null;
  texts: RowText[];
}

export interface Tokens {
  ids: number[];
  texts: string[];
  mask: number[];
  special: number[];
  total: number;
  learned: number;
  template: string;
  cut: boolean;
}

/** How many rows a report saw. */
export interface Seen {
  seen: number;
  all: boolean;
  spread: boolean;
}

export interface Edit {
  row: number;
  path: Path;
  /** null: the row is left out. */
  text: string | null;
}

export interface Made {
  name: string;
  rows: number;
  left_out: Record<string, number>;
}
