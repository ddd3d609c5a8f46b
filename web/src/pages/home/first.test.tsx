import { render, screen } from "@testing-library/react";
import { expect, it } from "vitest";
import { Preferences } from "../../preferences";
import { FirstModel, isShown, type First } from "./first";

function first(more: Partial<First>): First {
  return { run: "runs/first", state: "running", started: 1, seconds: 100, minutes: 6.5, stages: [], stage: "text", training: null, model: null, result: null, log: "", ...more };
}

function show(found: First | null) {
  render(
    <Preferences>
      <FirstModel first={{ data: { first: found }, error: null, reload: () => {} }} />
    </Preferences>,
  );
}

it("is offered where there is no model, watched, and offered to talk to until somebody talked", () => {
  expect(isShown(null, { models: 0, chats: 0 })).toBe(true);
  expect(isShown(null, { models: 1, chats: 0 })).toBe(false);
  expect(isShown(first({}), { models: 3, chats: 9 })).toBe(true);
  expect(isShown(first({ state: "finished" }), { models: 2, chats: 0 })).toBe(true);
  expect(isShown(first({ state: "finished" }), { models: 2, chats: 1 })).toBe(false);
});

it("ends with a link to the chat with the new model", () => {
  show(first({ state: "finished", model: "runs/first/chat", result: { exact_match: 0.971, seconds: 400, chats: [{ question: "<b>Who?</b>", answer: "Mo." }] } }));
  expect(screen.getByText("Talk to it").getAttribute("href")).toBe("/chat?model=runs%2Ffirst%2Fchat");
  expect(screen.getByText(/97 %/)).toBeTruthy();
  expect(screen.getByText("<b>Who?</b>")).toBeTruthy();
});

it("says why it ended and can be started again", () => {
  show(first({ state: "died", log: "$ smelt\nerror: no space\n" }));
  expect(screen.getByText(/error: no space/)).toBeTruthy();
  expect(screen.getByTestId("first-start").textContent).toBe("Start again");
});
