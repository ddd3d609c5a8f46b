// How a token is written: white space is made visible, a part of a character is its bytes.
import "./token.css";

export interface Token {
  id: number;
  /** Of a part of a character the whole of it, null where there is none. */
  text: string | null;
  /** Of a part of a character alone. */
  bytes?: number[];
  special?: boolean;
}

const VISIBLE: Record<string, string> = { " ": "·", "\n": "↵", "\t": "⇥", "\r": "␍", "\u00a0": "⍽" };

/** A space at either end and what ends a line cannot be seen otherwise; "" is a token without text. */
export function visible(text: string): string {
  if (text === "") return "∅";
  return text.replace(/^ +| +$|[\n\t\r\u00a0]/g, (found) => [...found].map((one) => VISIBLE[one] ?? one).join(""));
}

export function hex(bytes: number[]): string {
  return bytes.map((byte) => byte.toString(16).toUpperCase().padStart(2, "0")).join(" ");
}

/** One token as a word of text: "·night", or "E4 BA" where it is a part of a character. */
export function written(token: Token): string {
  return token.bytes ? hex(token.bytes) : visible(token.text ?? "");
}
