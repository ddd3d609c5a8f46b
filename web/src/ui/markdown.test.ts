import { expect, test } from "vitest";
import { safeHtml } from "./markdown";

test("markdown becomes markup", () => {
  expect(safeHtml("**bold** and `code`")).toBe("<p><strong>bold</strong> and <code>code</code></p>\n");
  expect(safeHtml("| a |\n|---|\n| 1 |")).toContain("<td>1</td>");
});

test("a link opens elsewhere and tells nobody where from", () => {
  const html = safeHtml("[here](https://example.org/)");
  expect(html).toContain('href="https://example.org/"');
  expect(html).toContain('rel="noopener noreferrer nofollow"');
});

test("a picture is a link, and does not load by itself", () => {
  const html = safeHtml("![cat](https://example.org/cat.png)");
  expect(html).not.toContain("<img");
  expect(html).toContain(">cat</a>");
});

test.each([
  "<script>alert(1)</script>",
  "<img src=x onerror=alert(1)>",
  "<svg onload=alert(1)>",
  "[x](javascript:alert(1))",
  "[x](data:text/html,<script>alert(1)</script>)",
  "![x](javascript:alert(1))",
  '![x"onerror=alert(1)](y)',
  "<iframe srcdoc='<script>alert(1)</script>'>",
  "<a href='https://x' onclick=alert(1) style='position:fixed'>x</a>",
  "<math><mi//xlink:href='data:x,<script>alert(4)</script>'>",
  "<form action=https://evil.example><button>x</button></form>",
  "<style>*{display:none}</style>",
])("nothing in it can run: %s", (text) => {
  const made = document.createElement("div");
  made.innerHTML = safeHtml(text);
  expect(made.querySelector("script, img, svg, iframe, style, form, math, object, embed, [style]")).toBeNull();
  for (const element of made.querySelectorAll("*"))
    for (const attribute of element.attributes) {
      expect(attribute.name).not.toMatch(/^on/);
      if (attribute.name === "href") expect(attribute.value).toMatch(/^https?:\/\//);
    }
});
