// A chat is a tree of messages: what is shown is one branch of it, and beside each message there may be others.

export interface ToolCall {
  id: string;
  type: string;
  function: { name: string; arguments: string };
}

export interface Details {
  finish_reason?: string;
  mode?: "chat" | "text";
  left_out?: number;
  tokens?: number;
  first_token_seconds?: number | null;
  tokens_per_second?: number | null;
  sampling?: Record<string, unknown>;
  tool_calls?: ToolCall[];
  tool_call_id?: string;
}

export interface Thumb {
  value: number;
  reason: string;
}

export interface Message {
  id: string;
  parent: string | null;
  role: "user" | "assistant" | "tool";
  content: string;
  model: string | null;
  details: Details;
  created: number;
  thumb?: Thumb | null;
  /** Whether it is being written. */
  writing?: boolean;
}

export interface Chat {
  id: string;
  title: string;
  system: string;
  messages: Message[];
}

export interface Tree {
  byId: Map<string, Message>;
  /** Messages by their parent, in the order in which they came; "" has the first ones. */
  children: Map<string, Message[]>;
}

export function treeOf(messages: Message[]): Tree {
  const byId = new Map(messages.map((message) => [message.id, message]));
  const children = new Map<string, Message[]>();
  for (const message of messages) {
    const parent = message.parent !== null && byId.has(message.parent) ? message.parent : "";
    const own = children.get(parent);
    if (own) own.push(message);
    else children.set(parent, [message]);
  }
  return { byId, children };
}

/** The messages down to one, by default to the newest. */
export function branch(tree: Tree, messages: Message[], leaf: string): Message[] {
  let at = tree.byId.get(leaf) ?? messages.at(-1);
  const found: Message[] = [];
  while (at) {
    found.push(at);
    at = at.parent === null ? undefined : tree.byId.get(at.parent);
  }
  return found.reverse();
}

/** The end of the newest branch below a message. */
export function leafBelow(tree: Tree, id: string): string {
  let at = id;
  for (;;) {
    const next = tree.children.get(at)?.at(-1);
    if (!next) return at;
    at = next.id;
  }
}

/** The messages that stand in the same place of the tree, this one among them. */
export function siblings(tree: Tree, message: Message): Message[] {
  const own = message.parent !== null && tree.byId.has(message.parent) ? message.parent : "";
  return tree.children.get(own) ?? [message];
}

/** The messages that are left when one is deleted with all below it. */
export function without(tree: Tree, messages: Message[], id: string): Message[] {
  const gone = new Set<string>();
  const open = [id];
  while (open.length) {
    const at = open.pop()!;
    gone.add(at);
    for (const child of tree.children.get(at) ?? []) open.push(child.id);
  }
  return messages.filter((message) => !gone.has(message.id));
}

export interface Part {
  kind: "text" | "thinking" | "call";
  text: string;
  /** Whether its end has not been written yet. */
  open: boolean;
}

const MARKS = { thinking: ["<think>", "</think>"], call: ["<tool_call>", "</tool_call>"] } as const;

/** Split an answer into text, thoughts and calls of tools; some templates write the mark before the thoughts themselves. */
export function parts(content: string): Part[] {
  const found: Part[] = [];
  const add = (kind: Part["kind"], text: string, open = false) => {
    if (text.trim() || (open && kind !== "text")) found.push({ kind, text: kind === "text" ? text : text.trim(), open });
  };
  let rest = content;
  const end = rest.indexOf(MARKS.thinking[1]);
  const begin = rest.indexOf(MARKS.thinking[0]);
  if (end >= 0 && (begin < 0 || begin > end)) {
    add("thinking", rest.slice(0, end));
    rest = rest.slice(end + MARKS.thinking[1].length);
  }
  for (;;) {
    const places = (["thinking", "call"] as const).map((kind) => ({ kind, at: rest.indexOf(MARKS[kind][0]) })).filter(({ at }) => at >= 0);
    const next = places.sort((a, b) => a.at - b.at)[0];
    if (!next) break;
    add("text", rest.slice(0, next.at));
    const inside = rest.slice(next.at + MARKS[next.kind][0].length);
    const close = inside.indexOf(MARKS[next.kind][1]);
    add(next.kind, close < 0 ? inside : inside.slice(0, close), close < 0);
    if (close < 0) return found;
    rest = inside.slice(close + MARKS[next.kind][1].length);
  }
  add("text", rest);
  return found;
}

/** What a chat is called that begins with a message. */
export function titleOf(text: string): string {
  const line = text.trim().split(/\n/)[0]!.replace(/\s+/g, " ").trim();
  return (line.length > 60 ? `${line.slice(0, 59)}…` : line) || "…";
}
