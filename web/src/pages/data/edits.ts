// Changes that are not saved yet: they are kept in this browser, for the very file that they were made on.
import { newId } from "../../api";
import { useKept } from "../../use";
import type { Edit, Path } from "./types";

export interface Draft {
  /** What the saved version will be known by, so that saving twice makes one file. */
  id: string;
  /** The state of the file that was changed. */
  stamp: string;
  edits: Edit[];
}

export function samePath(one: Path, other: Path): boolean {
  return one.length === other.length && one.every((part, place) => part === other[place]);
}

/** Put a change to the others; the last one of a place counts, and one that says what stood there goes. */
export function withEdit(edits: Edit[], edit: Edit, original: string | null): Edit[] {
  const others = edits.filter((one) => one.row !== edit.row || !(edit.text === null || one.text === null || samePath(one.path, edit.path)));
  return edit.text === original && edit.text !== null ? others : [...others, edit];
}

export function withoutRow(edits: Edit[], row: number): Edit[] {
  return edits.filter((one) => one.row !== row);
}

export function textAt(edits: Edit[], row: number, path: Path, original: string): string {
  return edits.find((one) => one.row === row && one.text !== null && samePath(one.path, path))?.text ?? original;
}

export function stateOf(edits: Edit[], row: number): "edited" | "removed" | "" {
  const mine = edits.filter((one) => one.row === row);
  return mine.some((one) => one.text === null) ? "removed" : mine.length ? "edited" : "";
}

/** The draft of a file, and what changes it; it is gone when its last change is. */
export function useDraft(name: string, stamp: string) {
  const [draft, setDraft] = useKept<Draft | null>(`data.draft.${name}`, null);
  const edits = draft?.edits ?? [];
  const set = (next: Edit[]) => setDraft(next.length ? { id: newId(), stamp: draft?.stamp ?? stamp, edits: next } : null);
  return { draft, edits, set, discard: () => setDraft(null), stale: draft !== null && draft.stamp !== stamp };
}

export type Drafts = ReturnType<typeof useDraft>;
