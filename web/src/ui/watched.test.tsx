import { render, screen } from "@testing-library/react";
import { describe, expect, it } from "vitest";
import { Preferences } from "../preferences";
import { Alerts, atSteps, Figures, joined, type Column, type Watched } from "./watched";

function watched(steps: number[], more: Partial<Watched> = {}): Watched {
  const names: Column[] = ["step", "tokens", "loss", "gradient_norm", "learning_rate", "seconds", "tokens_per_second", "memory_bytes"];
  const metrics = Object.fromEntries(names.map((name) => [name, name === "step" ? steps : steps.map((step) => step / 10)])) as Watched["metrics"];
  const step = steps.at(-1) ?? 0;
  return { state: "running", verb: "pretrain", command: null, started: 1, step, steps: 100, seconds: 9, left_seconds: 60, file: "7", whole: false, metrics, validation: { step: [], loss: [] }, samples: [], alerts: [], checkpoint: null, log: "", ...more };
}

describe("a run that is followed", () => {
  it("grows by what is new", () => {
    expect(joined(watched([1, 2]), watched([3])).metrics.step).toEqual([1, 2, 3]);
    expect(joined(watched([1, 2]), watched([])).metrics.loss).toEqual([0.1, 0.2]);
  });

  it("begins anew where it was cut back to a checkpoint, or is told whole", () => {
    expect(joined(watched([1, 2, 3]), watched([1, 2], { file: "8" })).metrics.step).toEqual([1, 2]);
    expect(joined(watched([1, 2, 3]), watched([1], { whole: true })).metrics.step).toEqual([1]);
    expect(joined(null, watched([5])).metrics.step).toEqual([5]);
  });

  it("has its held-out losses at their steps", () => {
    expect(atSteps([1, 2, 3, 4], { step: [2, 4], loss: [9, 8] })).toEqual([null, 9, null, 8]);
    expect(atSteps([10, 20], { step: [15, 30], loss: [9, 8] })).toEqual([null, 8]);
    expect(atSteps([], { step: [1], loss: [1] })).toEqual([]);
  });

  it("says how far it is and what stands out, with the step", () => {
    const run = watched([1, 40], { alerts: [{ kind: "spike", step: 40, value: 9, limit: 2.5 }] });
    render(
      <Preferences>
        <Figures of={run} />
        <Alerts alerts={run.alerts} />
      </Preferences>,
    );
    expect(screen.getByRole("progressbar").getAttribute("aria-valuenow")).toBe("40");
    expect(screen.getByText("40 of 100")).toBeTruthy();
    expect(screen.getByText("Step 40: the loss leapt to 9.000; it had stayed below 2.500.")).toBeTruthy();
  });
});
