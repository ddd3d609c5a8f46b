import { fireEvent, render, screen } from "@testing-library/react";
import { describe, expect, it, vi } from "vitest";
import { Preferences } from "../../preferences";
import { Composer } from "./composer";
import { MessageView, pretty } from "./message";
import { asked, type Choice, DEFAULTS, pick, toolsIn } from "./settings";
import { branch, leafBelow, type Message, parts, siblings, titleOf, treeOf, without } from "./tree";
import { joined } from "./use-chat";

function message(id: string, parent: string | null, role: Message["role"] = "user", more: Partial<Message> = {}): Message {
  return { id, parent, role, content: id, model: role === "assistant" ? "tiny" : null, details: {}, created: 0, ...more };
}

// a - b - d       (b and c answer a; e is a with other words)
//   \ c - f
// e
const ALL = [message("a", null), message("b", "a", "assistant"), message("c", "a", "assistant"), message("d", "b"), message("e", null), message("f", "c")];
const TREE = treeOf(ALL);
const ids = (found: Message[]) => found.map((one) => one.id).join("");

describe("a tree of messages", () => {
  it("shows the newest branch, or the one down to a leaf", () => {
    expect(ids(branch(TREE, ALL, ""))).toBe("acf");
    expect(ids(branch(TREE, ALL, "d"))).toBe("abd");
    expect(ids(branch(TREE, ALL, "gone"))).toBe("acf");
    expect(branch(treeOf([]), [], "")).toEqual([]);
  });
  it("knows what stands beside a message, and where a branch ends", () => {
    expect(ids(siblings(TREE, ALL[1]!))).toBe("bc");
    expect(ids(siblings(TREE, ALL[4]!))).toBe("ae");
    expect(leafBelow(TREE, "a")).toBe("f");
    expect(leafBelow(TREE, "b")).toBe("d");
  });
  it("loses a message with all below it", () => {
    expect(ids(without(TREE, ALL, "c"))).toBe("abde");
    expect(ids(without(TREE, ALL, "a"))).toBe("e");
  });
});

describe("the parts of an answer", () => {
  const kinds = (text: string) => parts(text).map(({ kind, text, open }) => [kind, text, open]);
  it("are text, thoughts and calls", () => {
    expect(kinds("plain")).toEqual([["text", "plain", false]]);
    expect(kinds("<think>\nhm\n</think>\nYes.")).toEqual([["thinking", "hm", false], ["text", "\nYes.", false]]);
    expect(kinds('a<tool_call>{"name": "f"}</tool_call>b')).toEqual([["text", "a", false], ["call", '{"name": "f"}', false], ["text", "b", false]]);
  });
  it("may be open, or begin with thoughts whose mark the template wrote", () => {
    expect(kinds("<think>so far")).toEqual([["thinking", "so far", true]]);
    expect(kinds("hm</think>Yes")).toEqual([["thinking", "hm", false], ["text", "Yes", false]]);
    expect(kinds("<think></think>Yes")).toEqual([["text", "Yes", false]]);
    expect(kinds("")).toEqual([]);
  });
});

describe("what is asked", () => {
  const choice = (name: string, more: Partial<Choice> = {}): Choice => ({ name, family: "llama", parameters: 1, max_seq_len: 1, chat: false, adapter: false, fault: null, ...more });
  const choices = [choice("masked", { fault: "no" }), choice("base"), choice("talk", { chat: true })];
  it("goes to the first wish that can answer, else to a model that chats", () => {
    expect(pick(choices, "", "base", "talk")).toBe("base");
    expect(pick(choices, "talk@int8")).toBe("talk@int8");
    expect(pick(choices, "masked", "gone")).toBe("talk");
    expect(pick(choices.slice(0, 2))).toBe("base");
    expect(pick([])).toBe("");
  });
  it("has a seed and tools only where there are some", () => {
    expect(asked(DEFAULTS)).toEqual({ temperature: 0.7, top_p: 0.95, top_k: 0, min_p: 0, repetition_penalty: 1, max_tokens: 512 });
    expect(asked({ ...DEFAULTS, seed: "7", tools: '[{"type": "function"}]' })).toMatchObject({ seed: 7, tools: [{ type: "function" }] });
    expect([toolsIn(" "), toolsIn("{}"), toolsIn("[")]).toEqual([[], null, null]);
  });
  it("is called by its first line", () => {
    expect(titleOf("\n  Where   is\nthe mill?")).toBe("Where is");
    expect(titleOf("x".repeat(99))).toHaveLength(60);
    expect(titleOf(" ")).toBe("…");
  });
  it("joins the pieces of calls", () => {
    const begun = joined([], { index: 0, id: "1", function: { name: "f", arguments: "" } });
    const whole = joined(begun, { index: 0, function: { name: "", arguments: "{}" } });
    expect(whole).toEqual([{ id: "1", type: "function", function: { name: "f", arguments: "{}" } }]);
    expect(joined(whole, { index: 1, id: "2", function: { name: "g", arguments: "" } })).toHaveLength(2);
    expect([pretty('{"x":1}'), pretty("{")]).toEqual(['{\n  "x": 1\n}', "{"]);
  });
});

describe("the composer", () => {
  const write = (onSend: (text: string) => void, busy = false) => {
    render(
      <Preferences>
        <Composer name="c" base={false} busy={busy} stopping={false} disabled={false} onSend={onSend} onStop={() => {}} />
      </Preferences>,
    );
    const box = screen.getByTestId("composer");
    fireEvent.change(box, { target: { value: "你好" } });
    return box;
  };
  it("sends with Enter, and neither with Shift nor while a word is composed", () => {
    const onSend = vi.fn();
    const box = write(onSend);
    fireEvent.keyDown(box, { key: "Enter", shiftKey: true });
    fireEvent.keyDown(box, { key: "Enter", isComposing: true });
    fireEvent.keyDown(box, { key: "Enter", keyCode: 229 });
    expect(onSend).not.toHaveBeenCalled();
    fireEvent.keyDown(box, { key: "Enter" });
    expect(onSend).toHaveBeenCalledExactlyOnceWith("你好");
    expect((box as HTMLTextAreaElement).value).toBe("");
  });
  it("sends nothing while an answer is written, and keeps what was typed", () => {
    const onSend = vi.fn();
    const box = write(onSend, true);
    fireEvent.keyDown(box, { key: "Enter" });
    expect(onSend).not.toHaveBeenCalled();
    expect(JSON.parse(localStorage.getItem("smelt.chat.draft.c")!)).toBe("你好");
  });
});

describe("a message", () => {
  const acts = { edit: vi.fn(), again: vi.fn(), show: vi.fn(), remove: vi.fn(), judge: vi.fn(async () => {}), returned: vi.fn() };
  const show = (one: Message, versions = one.id) =>
    render(
      <Preferences>
        <MessageView message={one} versions={versions} last busy={false} actions={acts} />
      </Preferences>,
    );
  it("is text of a person, as it is, and leads to its other versions", () => {
    show(message("m", null, "user", { content: "<b>bold</b> **x**" }), "l m n");
    expect(screen.getByText("<b>bold</b> **x**")).toBeTruthy();
    expect(screen.getByTestId("versions").textContent).toBe("2/3");
    fireEvent.click(screen.getByLabelText("The next version"));
    expect(acts.show).toHaveBeenCalledWith("n");
  });
  it("folds thoughts and asks for what tools returned", () => {
    const calls = [{ id: "1", type: "function", function: { name: "weather", arguments: '{"city":"Oslo"}' } }];
    show(message("m", "a", "assistant", { content: "<think>hm</think>", details: { tool_calls: calls, finish_reason: "tool_calls" } }));
    const folds = screen.getAllByTestId("fold") as HTMLDetailsElement[];
    expect(folds.map((fold) => fold.open)).toEqual([false, true]);
    expect(folds[1]!.textContent).toContain("Calls weather");
    fireEvent.change(screen.getByLabelText("What weather returned"), { target: { value: "rain" } });
    fireEvent.click(screen.getByText("Send"));
    expect(acts.returned).toHaveBeenCalledWith("m", [{ tool_call_id: "1", content: "rain" }]);
  });
  it("turns a thumb, and takes it back", () => {
    const { unmount } = show(message("m", "a", "assistant"));
    fireEvent.click(screen.getByLabelText("Bad answer"));
    expect(acts.judge).toHaveBeenLastCalledWith("m", { value: -1, reason: "" });
    unmount();
    show(message("m", "a", "assistant", { thumb: { value: -1, reason: "" } }));
    fireEvent.click(screen.getByLabelText("Bad answer"));
    expect(acts.judge).toHaveBeenLastCalledWith("m", { value: 0, reason: "" });
  });
});
