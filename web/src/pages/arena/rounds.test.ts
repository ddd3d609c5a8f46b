import { describe, expect, it } from "vitest";
import { another, complete, contestants, heard, named, nameOf, percent, scale, stored, type Overview, type Round, type Standing } from "./rounds";

const round: Round = {
  id: "r",
  prompt: "Hi",
  sampling: {},
  created: 0,
  sides: [
    { side: "a", answer: null, finish: null },
    { side: "b", answer: "there", finish: "length" },
  ],
  vote: null,
};
const overview: Overview = { models: ["x", "y"], weights: ["fp32", "int4"], most: 3, rounds: [] };

describe("answers", () => {
  it("grow piece by piece until the last has its finish", () => {
    let answers = stored(round);
    expect(answers).toEqual({ b: { text: "there", finish: "length" } });
    answers = heard(answers, { side: "a", text: "Hel" });
    expect(complete(round, answers)).toBe(false);
    answers = heard(answers, { side: "a", text: "lo", finish: "stop" });
    expect(answers.a).toEqual({ text: "Hello", finish: "stop" });
    expect(complete(round, answers)).toBe(true);
  });

  it("may be empty", () => {
    expect(complete(round, heard(stored(round), { side: "a", text: "", finish: "stop" }))).toBe(true);
  });
});

describe("contestants", () => {
  it("are two different ones to begin with", () => {
    expect(contestants([], overview).map(nameOf)).toEqual(["x", "y"]);
    expect(contestants([], { ...overview, models: ["x"] }).map(nameOf)).toEqual(["x", "x@int4"]);
    expect(contestants([], { ...overview, models: [] })).toEqual([]);
  });

  it("are named by a link", () => {
    expect(named("runs/a@int8")).toEqual({ model: "runs/a", weights: "int8" });
    expect(nameOf(named("runs/a"))).toBe("runs/a");
  });

  it("are those of the last time where they still exist", () => {
    const kept = [{ model: "gone", weights: "" }, { model: "y", weights: "int4" }, { model: "x", weights: "int3" }];
    expect(contestants(kept, overview).map(nameOf)).toEqual(["y@int4", "x"]);
  });

  it("run out", () => {
    const all = ["", "fp32", "int4"].map((weights) => ({ model: "x", weights }));
    expect(another(all, { ...overview, models: ["x"] })).toBeNull();
  });
});

it("a scale holds all intervals", () => {
  const standings = [{ low: 912, high: 1033 }, { low: 990, high: 1101 }] as Standing[];
  expect(scale(standings)).toEqual([900, 1150]);
  expect(percent(1025, 900, 1150)).toBe(50);
  expect(percent(5, 5, 5)).toBe(50);
});
