// One message: what was said, how it came about, and what can be done with it.
import { memo, useState } from "react";
import { useWords } from "../../preferences";
import { Badge, Button, CopyButton, Failed, Icon } from "../../ui";
import { Markdown } from "../../ui/markdown";
import { useAction } from "../../use";
import { type Message, type Thumb, type ToolCall, parts } from "./tree";
import { type Say, WORDS } from "./words";

export interface MessageActions {
  edit: (message: Message, content: string) => void;
  again: (message: Message) => void;
  show: (id: string) => void;
  remove: (message: Message) => void;
  judge: (message: string, thumb: Thumb) => Promise<void>;
  returned: (parent: string, results: { tool_call_id: string; content: string }[]) => void;
}

interface Props {
  message: Message;
  /** The messages in its place of the tree, by their ids joined with a space; itself the one at `place`. */
  versions: string;
  last: boolean;
  busy: boolean;
  actions: MessageActions;
}

export const MessageView = memo(function MessageView({ message, versions, last, busy, actions }: Props) {
  const t = useWords(WORDS);
  const [editing, setEditing] = useState(false);
  const mine = message.role === "user";
  return (
    <article className={`said ${message.role}`} data-testid="message" data-role={message.role} data-writing={message.writing || undefined}>
      <header className="unseen">
        <h3>{mine ? t("you") : message.role === "tool" ? t("tool") : message.model}</h3>
      </header>
      {editing ? (
        <Editor text={message.content} onCancel={() => setEditing(false)} onDone={(text) => (setEditing(false), actions.edit(message, text))} />
      ) : (
        <Body message={message} t={t} />
      )}
      {last && !message.writing && !busy && !!message.details.tool_calls?.length && <Results calls={message.details.tool_calls} onDone={(results) => actions.returned(message.id, results)} />}
      {!editing && !message.writing && <Tools message={message} versions={versions} busy={busy} actions={actions} onEdit={() => setEditing(true)} />}
    </article>
  );
});

function Body({ message, t }: { message: Message; t: Say }) {
  const { details } = message;
  if (message.role === "user") return <div className="bubble plain">{message.content}</div>;
  if (message.role === "tool") return <Fold title={t("result", { name: details.tool_call_id ?? "" })} text={message.content} />;
  const shown = details.mode === "text" ? [{ kind: "text" as const, text: message.content, open: false }] : parts(message.content);
  const calls = details.tool_calls ?? [];
  const silent = shown.length === 0 && calls.length === 0;
  return (
    <div className="answer" data-testid="answer">
      {!!details.left_out && (
        <p className="muted small row">
          <Icon name="warn" size={15} /> {t("leftOut", { count: details.left_out })}
        </p>
      )}
      {shown.map((part, place) =>
        part.kind === "thinking" ? (
          <Fold key={place} title={t("thinking")} text={part.text} open={part.open} />
        ) : part.kind === "call" ? (
          <Fold key={place} title={t("call", { name: "" })} text={part.text} open />
        ) : details.mode === "text" ? (
          <div key={place} className="plain">
            {part.text}
          </div>
        ) : (
          <Markdown key={place} text={part.text} />
        ),
      )}
      {calls.map((call) => (
        <Fold key={call.id} title={t("call", { name: call.function.name })} text={pretty(call.function.arguments)} open />
      ))}
      {silent && (message.writing ? <span className="caret" aria-hidden="true" /> : <p className="muted">{t("empty")}</p>)}
    </div>
  );
}

function Fold({ title, text, open = false }: { title: string; text: string; open?: boolean }) {
  return (
    <details className="fold" open={open} data-testid="fold">
      <summary>{title}</summary>
      <div className="plain mono">{text}</div>
    </details>
  );
}

export function pretty(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}

function Editor({ text, onCancel, onDone }: { text: string; onCancel: () => void; onDone: (text: string) => void }) {
  const t = useWords(WORDS);
  const [value, setValue] = useState(text);
  return (
    <form
      className="stack editor"
      onSubmit={(event) => {
        event.preventDefault();
        onDone(value);
      }}
    >
      <textarea
        className="input"
        aria-label={t("edit")}
        autoFocus
        rows={Math.min(12, value.split("\n").length + 1)}
        value={value}
        onChange={(event) => setValue(event.target.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") onCancel();
          if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
            event.preventDefault();
            if (value.trim()) onDone(value);
          }
        }}
      />
      <div className="row end">
        <Button small onClick={onCancel}>
          {t("cancel")}
        </Button>
        <Button small kind="primary" type="submit" disabled={!value.trim()}>
          {t("sendEdited")}
        </Button>
      </div>
    </form>
  );
}

function Tools({ message, versions, busy, actions, onEdit }: { message: Message; versions: string; busy: boolean; actions: MessageActions; onEdit: () => void }) {
  const t = useWords(WORDS);
  const ids = versions.split(" ");
  const place = ids.indexOf(message.id);
  return (
    <footer>
      <div className="row acts">
        {ids.length > 1 && (
          <span className="row versions" data-testid="versions">
            <Button kind="quiet" small icon="left" label={t("previous")} disabled={place === 0} onClick={() => actions.show(ids[place - 1]!)} />
            <span className="small number">{t("of", { place: place + 1, count: ids.length })}</span>
            <Button kind="quiet" small icon="right" label={t("next")} disabled={place === ids.length - 1} onClick={() => actions.show(ids[place + 1]!)} />
          </span>
        )}
        <CopyButton text={message.content} label={t("copy")} />
        {message.role === "user" && <Button kind="quiet" small icon="edit" label={t("edit")} disabled={busy} onClick={onEdit} />}
        {message.role === "assistant" && (
          <>
            <Button kind="quiet" small icon="redo" label={t("again")} disabled={busy} onClick={() => actions.again(message)} />
            <Thumbs message={message} judge={actions.judge} />
          </>
        )}
        <Button kind="quiet" small icon="trash" label={t("delete")} disabled={busy} onClick={() => actions.remove(message)} />
        {message.role === "assistant" && <Figures message={message} t={t} />}
      </div>
      {message.thumb && <Reason key={message.thumb.value} message={message} judge={actions.judge} />}
    </footer>
  );
}

/** How an answer came about. */
function Figures({ message, t }: { message: Message; t: Say }) {
  const { tokens, tokens_per_second: rate, first_token_seconds: first, sampling, finish_reason: reason } = message.details;
  const found = [
    message.model,
    tokens !== undefined && t("tokens", { count: tokens }),
    rate != null && t("rate", { rate: rate.toFixed(1) }),
    first != null && t("first", { seconds: first.toFixed(2) }),
    sampling?.seed !== undefined && sampling.temperature !== 0 && t("seed", { seed: String(sampling.seed) }),
  ].filter((one): one is string => Boolean(one));
  return (
    <span className="figures small muted number" data-testid="figures">
      {(reason === "stopped" || reason === "length") && <Badge kind="warn">{t(reason)}</Badge>}
      {found.join(" · ")}
    </span>
  );
}

function Thumbs({ message, judge }: { message: Message; judge: MessageActions["judge"] }) {
  const t = useWords(WORDS);
  const vote = useAction(async (value: number) => judge(message.id, { value: message.thumb?.value === value ? 0 : value, reason: "" }));
  return (
    <>
      <Button kind="quiet" small icon="up" label={t("good")} aria-pressed={message.thumb?.value === 1} onClick={() => void vote.run(1)} />
      <Button kind="quiet" small icon="down" label={t("bad")} aria-pressed={message.thumb?.value === -1} onClick={() => void vote.run(-1)} />
      {vote.error && <Failed error={vote.error} />}
    </>
  );
}

function Reason({ message, judge }: { message: Message; judge: MessageActions["judge"] }) {
  const t = useWords(WORDS);
  const kept = message.thumb!;
  const [reason, setReason] = useState(kept.reason);
  const save = useAction(async () => judge(message.id, { value: kept.value, reason }));
  return (
    <form
      className="row reason"
      onSubmit={(event) => {
        event.preventDefault();
        void save.run();
      }}
    >
      <input className="input" aria-label={t("reason")} placeholder={t("reason")} maxLength={2000} value={reason} onChange={(event) => setReason(event.target.value)} data-testid="reason" />
      {reason === kept.reason ? kept.reason && <Badge kind="good">{t("saved")}</Badge> : <Button small type="submit" disabled={save.busy}>{t("save")}</Button>}
      {save.error && <Failed error={save.error} />}
    </form>
  );
}

/** What the called tools returned, for a person to fill in: nothing is run here. */
function Results({ calls, onDone }: { calls: ToolCall[]; onDone: (results: { tool_call_id: string; content: string }[]) => void }) {
  const t = useWords(WORDS);
  const [values, setValues] = useState<string[]>(() => calls.map(() => ""));
  return (
    <form
      className="stack results"
      onSubmit={(event) => {
        event.preventDefault();
        onDone(calls.map((call, place) => ({ tool_call_id: call.id, content: values[place]! })));
      }}
    >
      {calls.map((call, place) => (
        <textarea
          key={call.id}
          className="input mono"
          rows={2}
          aria-label={t("result", { name: call.function.name })}
          placeholder={t("result", { name: call.function.name })}
          value={values[place]}
          onChange={(event) => setValues(values.map((old, at) => (at === place ? event.target.value : old)))}
        />
      ))}
      <div className="row end">
        <Button small kind="primary" type="submit">
          {t("send")}
        </Button>
      </div>
    </form>
  );
}
