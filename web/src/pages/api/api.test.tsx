import { expect, test } from "vitest";
import { shell, snippet, type Asked } from "./snippets";
import { duration, kindOf, ownerName } from "./usage";

const ASKED: Asked = { url: "http://127.0.0.1:8420/v1", model: "runs/it's \"my\" $HOME `model`", chat: true, locked: false };

/** What a POSIX shell makes of one word: pieces in single quotes are taken as they are, \' is a quote. */
function read(word: string): string {
  expect(word).toMatch(/^('[^']*'|\\')*$/);
  return word.replace(/'([^']*)'|\\(')/g, (_, inside: string | undefined, quote: string | undefined) => inside ?? quote!);
}

test("a shell reads back what was quoted for it", () => {
  expect(shell("it's")).toBe("'it'\\''s'");
  expect(read(shell(ASKED.model))).toBe(ASKED.model);
});

test("the body of the curl snippet is JSON whatever the model's name is", () => {
  const text = snippet("curl", ASKED);
  expect(text.startsWith("curl -s 'http://127.0.0.1:8420/v1/chat/completions' ")).toBe(true);
  expect(JSON.parse(read(text.split(" -d ")[1]!)).model).toBe(ASKED.model);
});

test("a model that was not taught to chat continues a text", () => {
  const asked = { ...ASKED, chat: false };
  expect(snippet("curl", asked)).toContain("/v1/completions'");
  expect(snippet("openai", asked)).toContain("client.completions.create");
  expect(snippet("langchain", asked)).toContain("import OpenAI\n");
});

test("a key is read from the environment where one is needed, and written nowhere", () => {
  for (const tool of ["curl", "openai", "langchain"] as const) {
    expect(snippet(tool, { ...ASKED, locked: true })).toContain("SMELT_API_KEY");
    expect(snippet(tool, ASKED)).not.toContain("SMELT_API_KEY");
  }
});

test("numbers of the log are short", () => {
  expect([duration(0.4), duration(1234.5)]).toEqual(["0.400 ms", "1.23 s"]);
  expect([kindOf(200), kindOf(499), kindOf(500)]).toEqual(["good", "warn", "bad"]);
  expect([ownerName("ann"), ownerName("a".repeat(64)), ownerName("")]).toEqual(["ann", "aaaaaaaa…", "–"]);
});
