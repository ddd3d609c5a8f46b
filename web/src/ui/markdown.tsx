// Markdown from a model or a person, as HTML that cannot do anything: it is sanitized last, after all else was done to it.
import DOMPurify from "dompurify";
import { marked } from "marked";
import { useMemo } from "react";

const ESCAPES: Record<string, string> = { "<": "&lt;", ">": "&gt;", "&": "&amp;", '"': "&quot;" };
const escaped = (text: string) => text.replace(/[<>&"]/g, (sign) => ESCAPES[sign]!);

// A picture from elsewhere would tell its server who reads this; so a picture becomes a link that somebody may follow.
// Tags are shown as they were written: merely to parse a style, in order to drop it, breaks the page's policy.
marked.use({
  renderer: {
    image: ({ href, text }) => `<a href="${encodeURI(href)}">${escaped(text || href)}</a>`,
    html: ({ text }) => escaped(text),
  },
});

const ALLOWED = {
  ALLOWED_TAGS: ["a", "b", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "li", "ol", "p", "pre", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul"],
  ALLOWED_ATTR: ["href", "start", "align"],
  ALLOWED_URI_REGEXP: /^https?:\/\//i,
};

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.nodeName === "A") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  }
});

export function safeHtml(text: string): string {
  return DOMPurify.sanitize(marked.parse(text, { async: false, gfm: true, breaks: true }), ALLOWED);
}

export function Markdown({ text }: { text: string }) {
  const html = useMemo(() => safeHtml(text), [text]);
  return <div className="prose" dangerouslySetInnerHTML={{ __html: html }} />;
}
