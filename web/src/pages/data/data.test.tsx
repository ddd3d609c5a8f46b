// Edits that are kept, files in folders, filters in the address, lengths with names, and tokens as they are drawn.
import { cleanup, render, screen } from "@testing-library/react";
import { describe, expect, it } from "vitest";
import { Preferences } from "../../preferences";
import { samePath, stateOf, textAt, withEdit, withoutRow } from "./edits";
import { fromWords, toWords } from "./filters";
import { grouped } from "./list";
import { named } from "./reports";
import { TokenLine, visible } from "./tokens";
import type { Edit } from "./types";

const file = (name: string) => ({ name, folder: name.includes("/") ? name.slice(0, name.lastIndexOf("/")) : "", bytes: 1, modified: 0 });

describe("edits", () => {
  const at = (row: number, text: string | null, ...path: (string | number)[]): Edit => ({ row, path, text });

  it("keep the last text of each place, and none that says what stood there", () => {
    let edits = withEdit([], at(1, "a", "text"), "was");
    edits = withEdit(edits, at(1, "b", "text"), "was");
    edits = withEdit(edits, at(1, "c", "messages", 0, "content"), "was");
    expect(edits).toHaveLength(2);
    expect(textAt(edits, 1, ["text"], "was")).toBe("b");
    expect(textAt(edits, 2, ["text"], "was")).toBe("was");
    expect(withEdit(edits, at(1, "was", "text"), "was")).toEqual([at(1, "c", "messages", 0, "content")]);
  });

  it("of a row that goes are its going alone", () => {
    const edits = withEdit(withEdit([], at(1, "a", "text"), ""), at(1, null), null);
    expect(edits).toEqual([at(1, null)]);
    expect([stateOf(edits, 1), stateOf(edits, 2)]).toEqual(["removed", ""]);
    expect(withoutRow(edits, 1)).toEqual([]);
    expect(samePath(["a", 1], ["a", "1"])).toBe(false);
  });
});

it("files stand in their folders, and a search needs all of its words", () => {
  const files = [file("a.jsonl"), file("town/train.jsonl"), file("town/held.jsonl")];
  expect(grouped(files, "").map((one) => [one.folder, one.files.length])).toEqual([["", 1], ["town", 2]]);
  expect(grouped(files, "TOWN train")[0]!.files).toEqual([files[1]]);
  expect(grouped(files, "town a.jsonl x")).toEqual([]);
});

it("filters survive being a part of the address", () => {
  const recipe = { ...fromWords(""), duplicates: false, traces: true, min_characters: 20 };
  expect(toWords(recipe)).toBe("bad,traces,min_characters=20");
  expect(fromWords(toWords(recipe))).toEqual(recipe);
  expect(fromWords("none")).toEqual({ ...recipe, bad: false, traces: false, min_characters: 0 });
  expect(fromWords("min_characters=-5,<b>").min_characters).toBe(0);
});

it("bars say which lengths they hold", () => {
  expect(named({ bars: [1, 0, 2], width: 20, open_end: true }).map((bar) => bar.name)).toEqual(["0–19", "20–39", "40+"]);
  expect(named({ bars: [1, 4], width: 1, open_end: false })).toEqual([{ name: "0", value: 1 }, { name: "1", value: 4 }]);
});

it("tokens are text with their mask as a class, whatever they spell", () => {
  const tokens = { ids: [7, 8], texts: ["<img src=x>", " a\n"], mask: [0, 1], special: [1, 0], total: 2, learned: 1, template: "", cut: false };
  render(
    <Preferences>
      <TokenLine tokens={tokens} ids />
    </Preferences>,
  );
  const line = screen.getByTestId("tokens");
  expect(line.querySelector("img")).toBeNull();
  expect(line.children[0]!.className).toBe("data-token special");
  expect(line.children[0]!.textContent).toBe("<img·src=x>7");
  expect(line.children[1]!.className).toBe("data-token learned");
  expect(visible("")).toBe("∅");
  cleanup();
});
