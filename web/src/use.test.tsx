import { act, renderHook } from "@testing-library/react";
import { expect, test } from "vitest";
import { useAction, useKept } from "./use";

test("what is kept survives", () => {
  const first = renderHook(() => useKept("test", 1));
  act(() => first.result.current[1](2));
  expect(renderHook(() => useKept("test", 1)).result.current[0]).toBe(2);
});

test("an action runs once however often it is asked for, and tells what went wrong", async () => {
  let runs = 0;
  let finish = () => {};
  const { result } = renderHook(() =>
    useAction(async () => {
      runs += 1;
      await new Promise<void>((done) => (finish = done));
      throw new Error("no");
    }),
  );
  act(() => {
    void result.current.run();
    void result.current.run();
  });
  expect(runs).toBe(1);
  expect(result.current.busy).toBe(true);
  await act(async () => finish());
  expect(result.current.busy).toBe(false);
  expect(result.current.error?.message).toBe("no");
});
