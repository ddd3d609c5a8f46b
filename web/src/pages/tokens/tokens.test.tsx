import { cleanup, fireEvent, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Preferences } from "../../preferences";
import TokensPage from "./tokens";
import { Strip } from "./strip";
import type { Lens } from "./words";

const LENS: Lens = {
  model: "runs/tiny",
  ids: [0, 1, 2, 3],
  tokens: [
    { id: 0, text: "<|end|>", special: true },
    { id: 1, text: " a" },
    { id: 2, text: "京", bytes: [0xe4, 0xba] },
    { id: 3, text: "<img src=x onerror=alert(1)>\n" },
  ],
  expected: [
    { entropy: 1, top: [[1, Math.log(0.5)]], logprob: Math.log(0.5), rank: 1 },
    { entropy: 2, top: [[1, Math.log(0.5)]], logprob: Math.log(0.001), rank: 3 },
    { entropy: 3, top: [[1, Math.log(0.5)]], logprob: 0, rank: 1 },
    { entropy: 4, top: [[1, Math.log(0.5)]], logprob: null, rank: null },
  ],
  spelled: { "1": " a" },
  decodes_with: null,
};
const LOGITS = btoa(String.fromCharCode(...new Uint8Array(new Float32Array([0, 2, 1, 0]).buffer)));

function answers(bodies: Record<string, object>) {
  const asked: [string, unknown][] = [];
  vi.stubGlobal("fetch", (path: string, sent: RequestInit) => {
    asked.push([path, sent.body ? JSON.parse(sent.body as string) : null]);
    return Promise.resolve(new Response(JSON.stringify(bodies[path] ?? {}), { status: path in bodies ? 200 : 404 }));
  });
  return asked;
}

beforeEach(() => {
  localStorage.setItem("smelt.language", '"en"');
});
afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
  history.replaceState(null, "", "/");
});

it("shades each token by its surprise, shows bytes of a part, and never makes markup of a token", () => {
  render(
    <Preferences>
      <Strip lens={LENS} at={1} from={3} by="surprise" onSelect={() => {}} />
    </Preferences>,
  );
  const shown = screen.getAllByRole("option");
  expect(shown.map((one) => one.textContent)).toEqual(["<|end|>", "·a", "E4 BA", "<img src=x onerror=alert(1)>↵", "＋what comes next"]);
  expect(shown.map((one) => one.dataset.shade)).toEqual([undefined, "2", "5", "0", undefined]);
  expect(document.querySelector("img")).toBeNull();
  expect(shown[3]!.className).toContain("fork");
});

it("moves with the arrow keys", () => {
  const chosen: number[] = [];
  render(
    <Preferences>
      <Strip lens={LENS} at={1} from={Infinity} by="entropy" onSelect={(place) => chosen.push(place)} />
    </Preferences>,
  );
  const list = screen.getByRole("listbox");
  for (const key of ["ArrowRight", "ArrowLeft", "End", "Home", "x"]) fireEvent.keyDown(list, { key });
  expect(chosen).toEqual([2, 0, 4, 0]);
});

it("redraws without asking, and branches from the token that is clicked", async () => {
  history.replaceState(null, "", "/tokens?model=runs%2Ftiny&text=x&at=2");
  const asked = answers({
    "/studio/choices": { models: [{ name: "runs/tiny", parameters: 1, chat: false, fault: null }] },
    "/studio/lens/tokens": LENS,
    "/studio/lens/logits": { logits: LOGITS },
    "/studio/lens/branch": { ids: [0, 1, 1, 3] },
  });
  render(
    <Preferences>
      <TokensPage />
    </Preferences>,
  );
  const bar = async () => (await screen.findByTestId("bars", {}, { timeout: 10_000 })).querySelector<HTMLElement>("[data-id='1']")!;
  const all = 2 * Math.exp(-2) + 1 + Math.exp(-1);
  expect(Number((await bar()).dataset.share)).toBeCloseTo(1 / all, 5);
  const before = asked.length;
  fireEvent.change(screen.getByLabelText(/Temperature/, { selector: "input" }), { target: { value: "0.5" } });
  const sharper = 2 * Math.exp(-4) + 1 + Math.exp(-2);
  expect(Number((await bar()).dataset.share)).toBeCloseTo(1 / sharper, 5);
  fireEvent.change(screen.getByLabelText(/Top-p/, { selector: "input" }), { target: { value: "0.5" } });
  expect(Number((await bar()).dataset.share)).toBe(1);
  expect(asked.length).toBe(before);
  fireEvent.click(await bar());
  await vi.waitFor(() => expect(new URLSearchParams(location.search).get("ids")).toBe("0.1.1.3"), 10_000);
  expect(asked.find(([path]) => path === "/studio/lens/branch")![1]).toMatchObject({ model: "runs/tiny", ids: [0, 1, 1], temperature: 0.5, top_p: 0.5 });
  expect(JSON.parse(localStorage.getItem("smelt.tokens.branches")!)).toHaveLength(1);
}, 20_000);
