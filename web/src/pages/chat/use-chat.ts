// One chat in the page: what the server keeps of it, the answer that is being written, and what a person does to both.
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { events, get, newId, send } from "../../api";
import { navigate } from "../../router";
import { type Chat, type Message, type Thumb, type ToolCall, titleOf, treeOf, without } from "./tree";

const FRAME_MS = 33; // between two paintings of a text that grows

type Told =
  | { kind: "begin"; left_out: number; mode: "chat" | "text" }
  | { kind: "delta"; text: string; tool_calls: (Partial<ToolCall> & { index: number })[]; tokens: number }
  | { kind: "message"; message: Message };

/** What is asked of the server, with all the names in it made here: tried again it is the same, and done once. */
interface Attempt {
  chat: string;
  title?: string;
  system?: { id: string; content: string };
  says: { id: string; parent: string | null; role: "user" | "tool"; content: string; tool_call_id?: string }[];
  answer: { id: string; parent: string; model: string } & Record<string, unknown>;
}

export interface Writing {
  id: string;
  parent: string;
  model: string;
  text: string;
  calls: ToolCall[];
  tokens: number;
  started: number;
  first: number | null;
  stopping: boolean;
}

interface State {
  chat: Chat | null;
  error: Error | null;
}

export function useChat(id: string | null, asking: { model: string; settings: Record<string, unknown> }, onChange: () => void) {
  const [{ chat, error }, setState] = useState<State>({ chat: null, error: null });
  const [writing, setWriting] = useState<Writing | null>(null);
  const [failed, setFailed] = useState<{ attempt: Attempt; error: Error } | null>(null);
  const [fresh, setFresh] = useState(""); // the system prompt of a chat that is not there yet
  const control = useRef<AbortController | null>(null);
  const here = useRef<string | null>(null); // the chat that is shown
  const latest = useRef({ asking, onChange, chat, fresh });
  latest.current = { asking, onChange, chat, fresh };

  const load = useCallback((wanted: string) => {
    setState((old) => ({ chat: old.chat?.id === wanted ? old.chat : null, error: null }));
    get<Chat>(`/studio/chats/${encodeURIComponent(wanted)}`).then(
      (found) => here.current === wanted && setState({ chat: found, error: null }),
      (problem: Error) => here.current === wanted && setState({ chat: null, error: problem }),
    );
  }, []);

  useEffect(() => {
    if (id === here.current) return; // it was made here
    control.current?.abort();
    here.current = id;
    setWriting(null);
    setFailed(null);
    setFresh("");
    if (id === null) setState({ chat: null, error: null });
    else load(id);
  }, [id, load]);
  useEffect(
    () => () => {
      here.current = null; // so that a page that is shown again loads anew
      control.current?.abort();
    },
    [],
  );

  const change = useCallback((chat: string, edit: (old: Message[]) => Message[]) => {
    setState((old) => (old.chat?.id === chat ? { ...old, chat: { ...old.chat, messages: edit(old.chat.messages) } } : old));
  }, []);

  const run = useCallback(
    async (attempt: Attempt) => {
      const stop = new AbortController();
      control.current?.abort();
      control.current = stop;
      setFailed(null);
      try {
        await say(attempt, (message) => change(attempt.chat, (old) => (old.some((one) => one.id === message.id) ? old : [...old, message])), (made) => {
          here.current = made.id;
          setState({ chat: made, error: null });
          navigate(`/chat/${made.id}${location.search}`, { replace: true });
        });
        latest.current.onChange();
        for await (const message of written(attempt, stop.signal, setWriting)) change(attempt.chat, (old) => [...old.filter((one) => one.id !== message.id), message]);
        setWriting(null);
        latest.current.onChange();
      } catch (problem) {
        if (stop.signal.aborted) return;
        setWriting(null);
        setFailed({ attempt, error: problem as Error });
      }
    },
    [change],
  );

  const actions = useMemo(() => {
    const answerTo = (parent: string) => ({ id: newId(), parent, model: latest.current.asking.model, ...latest.current.asking.settings });
    return {
      /** Say something below a message, and have it answered. */
      say(content: string, parent: string | null) {
        const message = { id: newId(), parent, role: "user" as const, content };
        const made = here.current === null ? { chat: newId(), title: titleOf(content), ...(latest.current.fresh ? { system: { id: newId(), content: latest.current.fresh } } : {}) } : { chat: here.current };
        void run({ ...made, says: [message], answer: answerTo(message.id) });
      },
      /** Hand the results of an answer's calls back, one after another, and go on. */
      returned(parent: string, results: { tool_call_id: string; content: string }[]) {
        const says: Attempt["says"] = [];
        for (const result of results) says.push({ id: newId(), parent: says.at(-1)?.id ?? parent, role: "tool", ...result });
        void run({ chat: here.current!, says, answer: answerTo(says.at(-1)!.id) });
      },
      answer(parent: string) {
        void run({ chat: here.current!, says: [], answer: answerTo(parent) });
      },
      retry(attempt: Attempt) {
        void run(attempt);
      },
      stop(writing: Writing) {
        setWriting((old) => old && { ...old, stopping: true });
        send("POST", `/studio/chats/${here.current}/answers/${writing.id}/stop`).catch(() => control.current?.abort());
      },
      async remove(message: string) {
        const chat = here.current!;
        await send("DELETE", `/studio/chats/${chat}/messages/${message}`);
        change(chat, (old) => without(treeOf(old), old, message));
        latest.current.onChange();
      },
      async judge(message: string, thumb: Thumb) {
        const chat = here.current!;
        const kept = await send<{ thumb: Thumb | null }>("PUT", `/studio/chats/${chat}/messages/${message}/thumb`, thumb);
        change(chat, (old) => old.map((one) => (one.id === message ? { ...one, thumb: kept.thumb } : one)));
      },
      async instruct(content: string) {
        const chat = here.current;
        if (chat === null) return setFresh(content);
        await send("POST", `/studio/chats/${chat}/messages`, { id: newId(), parent: null, role: "system", content });
        setState((old) => (old.chat ? { ...old, chat: { ...old.chat, system: content } } : old));
      },
    };
  }, [change, run]);
  const reload = useCallback(() => here.current !== null && load(here.current), [load]);
  return { chat, error, writing, failed, system: chat?.system ?? fresh, actions, reload };
}

export type ChatActions = ReturnType<typeof useChat>["actions"];

/** Write down what a person said, and the chat itself where it is new. */
async function say(attempt: Attempt, onSaid: (message: Message) => void, onMade: (chat: Chat) => void): Promise<void> {
  const { chat, title, system } = attempt;
  if (title !== undefined) {
    await send("POST", "/studio/chats", { id: chat, title });
    if (system) await send("POST", `/studio/chats/${chat}/messages`, { ...system, parent: null, role: "system" });
  }
  const said: Message[] = [];
  for (const message of attempt.says) said.push((await send<{ message: Message }>("POST", `/studio/chats/${chat}/messages`, message)).message);
  if (title !== undefined) onMade({ id: chat, title, system: system?.content ?? "", messages: [] });
  said.forEach(onSaid);
}

/** Follow an answer while it is written, and yield it when it is stored. */
async function* written(attempt: Attempt, signal: AbortSignal, show: (update: (old: Writing | null) => Writing | null) => void): AsyncGenerator<Message> {
  const { id, parent, model } = attempt.answer;
  const now: Writing = { id, parent, model, text: "", calls: [], tokens: 0, started: performance.now(), first: null, stopping: false };
  show(() => ({ ...now }));
  let painted = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const paint = () => {
    painted = performance.now();
    timer = undefined;
    // What comes after a person pressed stop is not shown before the whole is.
    show((old) => (old?.stopping || old?.id !== id ? old : { ...now, calls: [...now.calls] }));
  };
  try {
    for await (const told of events<Told>(`/studio/chats/${attempt.chat}/answers`, attempt.answer, signal)) {
      if (told.kind === "message") yield told.message;
      if (told.kind !== "delta") continue;
      now.first ??= performance.now();
      now.text += told.text;
      now.tokens = told.tokens;
      for (const piece of told.tool_calls) now.calls = joined(now.calls, piece);
      timer ??= setTimeout(paint, Math.max(0, FRAME_MS - (performance.now() - painted)));
    }
  } finally {
    clearTimeout(timer);
  }
}

/** Add a piece of a call to the calls so far. */
export function joined(calls: ToolCall[], piece: Partial<ToolCall> & { index: number }): ToolCall[] {
  const old = calls[piece.index];
  if (!old) return [...calls, { id: piece.id ?? "", type: "function", function: { name: piece.function?.name ?? "", arguments: piece.function?.arguments ?? "" } }];
  const longer = { ...old, function: { ...old.function, arguments: old.function.arguments + (piece.function?.arguments ?? "") } };
  return calls.map((call, place) => (place === piece.index ? longer : call));
}
