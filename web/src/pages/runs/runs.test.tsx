import { render, screen } from "@testing-library/react";
import { describe, expect, it } from "vitest";
import { Preferences } from "../../preferences";
import { linesOf } from "./controls";
import { chosenOf, curveAddresses, joinNames, listed, nearest, pointsFor, splitNames, value, type Drawn, type Run } from "./data";
import { corners, type PlotLine } from "./plot";
import Report, { partsOf } from "./report";
import { RunTable } from "./table";

function run(name: string, more: Partial<Run> = {}): Run {
  return { name, stage: "pretrain", step: 1, steps: 2, train_loss: 3, validation_loss: null, best_validation_loss: null, tokens: 1, seconds: 1, tokens_per_second: 1, parameters: null, flops_a_token: null, checkpoint: null, changed: 0, ...more };
}

describe("runs in an address", () => {
  it("survive commas and percent signs", () => {
    const names = ["runs/a, b", "runs/100%", "runs/中"];
    expect(splitNames(joinNames(names))).toEqual(names);
    expect(splitNames(",")).toEqual([]);
  });

  it("are the newest by default, all that are listed for *, and no unknown ones", () => {
    const runs = Array.from({ length: 10 }, (_, place) => run(`r${place}`));
    expect(chosenOf(null, runs, runs)).toHaveLength(8);
    expect(chosenOf("*", runs, runs.slice(3))).toEqual(runs.slice(3).map((one) => one.name));
    expect(chosenOf("r9,gone,r1", runs, runs)).toEqual(["r9", "r1"]);
  });

  it("are asked in parts, with fewer points the more they are", () => {
    const names = Array.from({ length: 60 }, (_, place) => `r${place}`);
    const addresses = curveAddresses(names, { metrics: "loss", smooth: "" });
    expect(addresses).toHaveLength(4); // of 5, 5, 25 and 25 runs
    expect(addresses[0]).toContain("points=1000&metrics=loss");
    expect(addresses[0]).not.toContain("smooth");
    expect([pointsFor(1), pointsFor(200), pointsFor(5000)]).toEqual([2000, 300, 200]);
  });
});

describe("the list", () => {
  const runs = [run("b/two", { train_loss: 2 }), run("a/ten", { train_loss: null, stage: "sft" }), run("a/one", { train_loss: 9 })];
  const names = (...given: [string, string, string]) => listed(runs, ...given).map((one) => one.name);

  it("is sorted both ways with what is unknown last", () => {
    expect(names("", "", "train_loss")).toEqual(["b/two", "a/one", "a/ten"]);
    expect(names("", "", "-train_loss")).toEqual(["a/one", "b/two", "a/ten"]);
    expect(names("", "", "name")).toEqual(["a/one", "a/ten", "b/two"]);
    expect(names("", "", "nonsense")).toEqual(["b/two", "a/ten", "a/one"]);
  });

  it("is filtered by words and stage", () => {
    expect(names("A T", "", "")).toEqual(["a/ten"]);
    expect(names("", "sft", "")).toEqual(["a/ten"]);
  });

  it("shows a run's figures and marks those of the chart", () => {
    render(
      <Preferences>
        <RunTable runs={runs} shown={runs} colors={new Map([["a/one", 2]])} setChosen={() => {}} />
      </Preferences>,
    );
    expect(screen.getByText("a/one").getAttribute("href")).toBe("/runs/a%2Fone");
    expect((screen.getByLabelText("Show a/one in the chart") as HTMLInputElement).checked).toBe(true);
    expect((screen.getByLabelText("Show b/two in the chart") as HTMLInputElement).checked).toBe(false);
    expect(screen.getByTestId("chosen").textContent).toBe("1 of 3 runs");
  });
});

describe("a chart", () => {
  const drawn: Drawn = { name: "r", metrics: ["step", "loss"], curves: [{ metric: "loss", x: [1, 2, 3], y: [5, 4, 0], rows: 3, smooth: null }], validations: { x: [2, 9], y: [4.5, 3] }, broken: [] };

  it("has the curve, and its validations where they are in sight", () => {
    const lines = linesOf([{ run: drawn, color: 3 }], "loss", "validation");
    expect(lines.map((line) => [line.kind, line.points.x])).toEqual([
      ["line", [1, 2, 3]],
      ["dots", [2]],
    ]);
    expect(linesOf([{ run: drawn, color: 3 }], "none", "validation")).toEqual([]);
  });

  it("shows the raw curve faint below the running average", () => {
    const smooth = { ...drawn, curves: [{ ...drawn.curves[0]!, smooth: { x: [1, 2, 3], y: [5, 4.5, 4] } }] };
    expect(linesOf([{ run: smooth, color: 1 }], "loss", "v").map((line) => line.kind)).toEqual(["faint", "line", "dots"]);
  });

  it("fits all points, and on a logarithmic axis only what is above zero", () => {
    const lines: PlotLine[] = [{ name: "r", points: { x: [0, 10], y: [0, 4] }, color: 1, kind: "line" }];
    expect(corners(lines, false, false)).toEqual([[0, 10], [0, 4]]);
    expect(corners(lines, true, true)).toEqual([[10, 10], [4, 4]]);
    expect(corners([], false, true)).toEqual([[0, 1], [1, 10]]);
  });

  it("finds the nearest place", () => {
    expect([-5, 1, 14, 16, 99].map((at) => nearest([0, 10, 20, 30], at))).toEqual([0, 0, 1, 2, 3]);
  });
});

describe("a report", () => {
  const text = '# Run\n\n![loss](loss.png)\n\n![far](https://evil.example/a.png)\n\n<img src="x" onerror="alert(1)">';

  it("is cut at pictures of its own folder only", () => {
    expect(partsOf(text).map((part) => ("picture" in part ? part.picture : "text"))).toEqual(["text", "loss.png", "text"]);
    expect(partsOf("![up](../secret.png)")).toEqual([{ text: "![up](../secret.png)" }]);
  });

  it("loads no other picture and runs nothing", () => {
    const { container } = render(<Report run="runs/a b" text={text} />);
    const pictures = [...container.querySelectorAll("img")];
    expect(pictures.map((one) => one.getAttribute("src"))).toEqual(["/studio/runs/picture?name=runs%2Fa%20b&file=loss.png"]);
    expect(container.querySelector("[onerror]")).toBeNull(); // what it says is shown as text
  });
});

it("numbers are written as far as they mean something", () => {
  expect([3.2840614, 7495680, 0.0000123, null, 0].map(value)).toEqual(["3.2841", "7,495,680", "1.23e-5", "–", "0"]);
});
