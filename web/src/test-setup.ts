// jsdom has no layout: what asks for one gets an empty answer.
import { cleanup } from "@testing-library/react";
import { afterEach } from "vitest";

window.matchMedia ??= (query: string) =>
  ({ matches: false, media: query, addEventListener: () => {}, removeEventListener: () => {} }) as unknown as MediaQueryList;
afterEach(() => {
  cleanup();
  localStorage.clear();
});
