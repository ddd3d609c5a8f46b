// A model and a text that it reads, as part of the address; and what a route answers to them.
import { useEffect, useState } from "react";
import { send } from "../api";
import { short } from "../format";
import { useWords } from "../preferences";
import { navigate, usePlace } from "../router";
import { useGet, type Loaded } from "../use";
import { Button, Card, Failed, Field, Loading, Notice } from ".";
import "./reader.css";

const WORDS = {
  model: ["Model", "模型"],
  text: ["Text", "文本"],
  chat: ["Ask it as a chat message", "作为对话消息提问"],
  read: ["Read", "阅读"],
  none: ["There is no model yet. Train one first.", "还没有模型，请先训练一个。"],
  choose: ["Choose a model", "选择模型"],
  decodes: ["Answers of this model are written with weights in {weights}. What you see here is read with the model's own weights, as its prompts are.", "此模型用 {weights} 权重生成回答；这里显示的是用原始权重阅读的结果，与它阅读提示时相同。"],
} as const;

export interface Text {
  model: string;
  text?: string;
  messages?: { role: string; content: string }[];
  ids?: number[];
}

export interface Choice {
  name: string;
  parameters: number | null;
  chat: boolean;
  fault: string | null;
}

/** Change some words of the address; an empty one is left out. */
export function go(changes: Record<string, string | null>, options: { replace?: boolean; path?: string } = {}): void {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  navigate((options.path ?? location.pathname) + (query.size ? `?${query}` : ""), { replace: options.replace ?? false });
}

/** What the address says is to be read, null while it says nothing. */
export function useText(): Text | null {
  const { query } = usePlace();
  const model = query.get("model");
  const text = query.get("text") ?? "";
  const ids = query.get("ids");
  if (!model) return null;
  if (ids) return { model, ids: ids.split(".").map(Number) };
  if (!text) return null;
  return query.get("chat") ? { model, messages: [{ role: "user", content: text }] } : { model, text };
}

/** Post a body and keep the answer; data stays while another body is under way. A null body asks nothing. */
export function useAnswer<T>(path: string, body: object | null): Loaded<T> & { busy: boolean } {
  const key = body && JSON.stringify([path, body]);
  const [state, setState] = useState<{ key: string | null; data: T | null; error: Error | null }>({ key: null, data: null, error: null });
  const [round, setRound] = useState(0);
  useEffect(() => {
    if (key === null) return;
    let stale = false;
    const [to, sent] = JSON.parse(key);
    send<T>("POST", to, sent).then(
      (data) => stale || setState({ key, data, error: null }),
      (error: Error) => stale || setState({ key, data: null, error }),
    );
    return () => {
      stale = true;
    };
  }, [key, round]);
  const busy = key !== null && state.key !== key;
  return { data: key === null ? null : state.data, error: busy ? null : state.error, busy, reload: () => setRound((old) => old + 1) };
}

/** Read float32, the lowest byte first, from base64. */
export function unpack(text: string): Float32Array {
  const read = atob(text);
  const bytes = new Uint8Array(read.length);
  for (let place = 0; place < read.length; place++) bytes[place] = read.charCodeAt(place);
  return new Float32Array(bytes.buffer);
}

export function ModelChoice({ value, onChange }: { value: string; onChange: (model: string) => void }) {
  const t = useWords(WORDS);
  const choices = useGet<{ models: Choice[] }>("/studio/choices");
  if (choices.error) return <Failed error={choices.error} retry={choices.reload} />;
  if (!choices.data) return <Loading />;
  const models = choices.data.models.filter((one) => !one.fault || one.name === value);
  if (models.length === 0 && !value) return <Notice>{t("none")}</Notice>;
  return (
    <Field label={t("model")}>
      {(id) => (
        <select id={id} className="input" value={value} onChange={(event) => onChange(event.target.value)}>
          {!value && <option value="">{t("choose")}</option>}
          {value && !models.some((one) => one.name === value) && <option value={value}>{value}</option>}
          {models.map((one) => (
            <option key={one.name} value={one.name}>
              {one.name}
              {one.parameters ? ` · ${short(one.parameters)}` : ""}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

/** The form: a model, a text, and whether the text is asked as a message; reading writes them into the address. */
export function Reader({ busy, example, forget }: { busy: boolean; example: string; forget: string[] }) {
  const t = useWords(WORDS);
  const { query } = usePlace();
  const [model, text, chat] = [query.get("model") ?? "", query.get("text") ?? "", query.get("chat") ?? ""];
  const [draft, setDraft] = useState(text || example);
  useEffect(() => {
    if (text) setDraft(text);
  }, [text]);
  const cleared = Object.fromEntries(["ids", ...forget].map((name) => [name, null]));
  return (
    <Card className="reader">
      <form
        className="reader-form"
        onSubmit={(event) => {
          event.preventDefault();
          go({ ...cleared, text: draft });
        }}
      >
        <Field label={t("text")}>{(id) => <textarea id={id} className="input" rows={4} maxLength={8000} value={draft} onChange={(event) => setDraft(event.target.value)} />}</Field>
        <div className="reader-side">
          <ModelChoice value={model} onChange={(name) => go({ ...cleared, model: name }, { replace: !model })} />
          <label className="reader-chat small">
            <input type="checkbox" checked={chat === "1"} onChange={(event) => go({ ...cleared, chat: event.target.checked ? "1" : null }, { replace: true })} /> {t("chat")}
          </label>
          <Button kind="primary" type="submit" disabled={!draft || !model || busy} data-testid="read">
            {t("read")}
          </Button>
        </div>
      </form>
    </Card>
  );
}

export function Decodes({ weights }: { weights: string | null }) {
  const t = useWords(WORDS);
  return weights && <Notice>{t("decodes", { weights })}</Notice>;
}
