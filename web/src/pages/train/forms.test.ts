import { describe, expect, it } from "vitest";
import { asSources, foldedGroups, fromSources, placeOf, rangeOf, shownDefault, shownProblems, typedNumber, withValue, type FieldOf, type Form } from "./forms";

function field(key: string, more: Partial<FieldOf> = {}): FieldOf {
  return { key, group: key.includes(".") ? key.slice(0, key.lastIndexOf(".")) : "", basic: false, help: "", required: false, default: null, type: "text", ...more };
}

describe("values of a form", () => {
  it("are numbers where a number was typed, and else what was typed, for the server to judge", () => {
    expect([typedNumber("12"), typedNumber(" 3e-4 "), typedNumber("many"), typedNumber("")]).toEqual([12, 3e-4, "many", ""]);
  });

  it("are forgotten when they are emptied", () => {
    expect(withValue({ steps: 3, name: "x" }, "steps", "")).toEqual({ name: "x" });
    expect(withValue({}, "sample_prompts", [])).toEqual({});
    expect(withValue({}, "gradient_checkpointing", false)).toEqual({ gradient_checkpointing: false });
    expect(withValue({}, "seed", 0)).toEqual({ seed: 0 });
  });

  it("name one source by its path, and several with their weights", () => {
    expect(asSources("a.txt")).toEqual([{ path: "a.txt" }]);
    expect(fromSources([{ path: "a.txt", weight: 1 }])).toBe("a.txt");
    expect(fromSources([{ path: "a.txt", weight: 2 }])).toEqual([{ path: "a.txt", weight: 2 }]);
    const two = [{ path: "a.txt" }, { path: "b.txt", weight: 3 }];
    expect(asSources(fromSources(two))).toEqual(two);
  });
});

describe("faults", () => {
  const fields = [field("name", { required: true }), field("data"), field("optimizer.learning_rate"), field("optimizer.name")];

  it("stand beside the field that they are inside of", () => {
    expect(placeOf("data.0.path", fields)).toBe("data");
    expect(placeOf("optimizer.learning_rate", fields)).toBe("optimizer.learning_rate");
    expect(placeOf("colour", fields)).toBe("");
  });

  it("of fields that are still empty wait until somebody asks for more", () => {
    const problems = { name: "required", "data.0.path": "not there", "": "give one length" };
    expect(shownProblems(problems, fields, { data: "x" }, false)).toEqual({ data: "not there" });
    expect(shownProblems(problems, fields, { data: "x" }, true)).toEqual({ name: "required", data: "not there", "": "give one length" });
  });
});

describe("folded fields", () => {
  const form: Form = {
    verb: "sft",
    help: "",
    groups: {},
    choices: { checkpoint: [], data: [], tokenizer: [] },
    fields: [field("name", { basic: true }), field("seed"), field("tune.train"), field("tune.lora.rank"), field("tune.p_tuning.encoder"), field("optimizer.name")],
  };

  it("show the settings of the chosen method alone", () => {
    const groups = (method?: string) => foldedGroups(form, method ? { "tune.method": method } : {}).map(([group]) => group);
    expect(groups()).toEqual(["", "tune", "optimizer"]);
    expect(groups("lora")).toEqual(["", "tune", "tune.lora", "optimizer"]);
    expect(groups("p-tuning")).toContain("tune.p_tuning");
  });

  it("say their range and what they are without a word", () => {
    expect(rangeOf(field("a", { gt: 0, le: 1 }))).toBe("> 0 · ≤ 1");
    expect([shownDefault(null), shownDefault([]), shownDefault({}), shownDefault(0.1), shownDefault([0.7, 0.3])]).toEqual(["", "", "", "0.1", "0.7, 0.3"]);
  });
});
