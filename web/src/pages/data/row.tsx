// One row: as training reads it, as tokens, as it stands in the file, and with its texts to be changed.
import { useWords } from "../../preferences";
import { Await, Badge, Button, Card, CopyButton, Failed, Notice, Tabs } from "../../ui";
import { useGet, useQuery } from "../../use";
import { stateOf, textAt, withEdit, withoutRow, type Drafts } from "./edits";
import { TokenView, type ModelChoice } from "./tokens";
import type { Message, Row } from "./types";

const WORDS = {
  row: ["Row {row}", "第 {row} 行"],
  view: ["View of the row", "这一行的视图"],
  read: ["Read", "阅读"],
  tokens: ["Tokens", "词元"],
  raw: ["Raw", "原文"],
  edit: ["Edit", "修改"],
  cut: ["Only the beginning is shown.", "只显示开头。"],
  copy: ["Copy", "复制"],
  thinks: ["thinks", "思考"],
  calls: ["calls", "调用"],
  tools: ["tools", "工具"],
  remove: ["Leave this row out", "去掉这一行"],
  restore: ["Undo the changes to this row", "撤销对这一行的修改"],
  removed: ["This row will be left out of the new version.", "新版本将不包含这一行。"],
  fixed: ["No text of this row can be changed here; it can be left out.", "这一行没有可修改的文字，但可以去掉。"],
} as const;
const VIEWS = ["read", "tokens", "raw", "edit"] as const;
type View = (typeof VIEWS)[number];

export function RowView({ name, number, drafts, ...choice }: { name: string; number: number; drafts: Drafts } & ModelChoice) {
  const t = useWords(WORDS);
  const [view, setView] = useQuery("view", "read");
  const row = useGet<Row>(`/studio/datasets/row?name=${encodeURIComponent(name)}&row=${number}`);
  const shown: View = VIEWS.includes(view as View) ? (view as View) : "read";
  const tabs = { read: t("read"), tokens: t("tokens"), raw: t("raw"), edit: t("edit") };
  return (
    <Card className="data-row stack" data-testid="row">
      <div className="row data-row-head">
        <h2>{t("row", { row: number })}</h2>
        <Tabs tabs={tabs} value={shown} onChange={setView} label={t("view")} />
      </div>
      <Await of={row}>
        {(found) => (
          <>
            {found.fault && <Failed error={new Error(found.fault)} />}
            {found.cut && <Notice>{t("cut")}</Notice>}
            {shown === "read" && <Reading row={found} />}
            {shown === "tokens" && (found.typed ? <TokenView name={name} number={number} {...choice} /> : <Raw row={found} />)}
            {shown === "raw" && <Raw row={found} />}
            {shown === "edit" && <Editor row={found} drafts={drafts} />}
          </>
        )}
      </Await>
    </Card>
  );
}

function Raw({ row }: { row: Row }) {
  const t = useWords(WORDS);
  return (
    <div className="data-raw">
      <CopyButton text={row.raw} label={t("copy")} />
      <pre className="code" tabIndex={0}>
        {row.raw}
      </pre>
    </div>
  );
}

function Reading({ row }: { row: Row }) {
  const t = useWords(WORDS);
  if (!row.typed) return <Raw row={row} />;
  const { type, messages, tools, ...others } = row.typed;
  const texts = Object.entries(others).filter(([, value]) => typeof value === "string" && value !== "") as [string, string][];
  return (
    <div className="stack">
      {!!tools?.length && <Part label={t("tools")} text={JSON.stringify(tools, null, 2)} code />}
      {messages?.map((message, place) => <Turn key={place} message={message} />)}
      {texts.map(([key, text]) => (
        <Part key={key} label={type === "TextRow" ? "" : key} text={text} />
      ))}
    </div>
  );
}

function Turn({ message }: { message: Message }) {
  const t = useWords(WORDS);
  const learned = message.role === "assistant";
  return (
    <div className={`data-turn ${learned ? "learned" : ""}`}>
      <Badge kind={learned ? "good" : ""}>{message.role}</Badge>
      <div className="stack">
        {message.reasoning_content && <Part label={t("thinks")} text={message.reasoning_content} />}
        {message.content && <Part label="" text={message.content} />}
        {message.tool_calls && <Part label={t("calls")} text={JSON.stringify(message.tool_calls, null, 2)} code />}
      </div>
    </div>
  );
}

function Part({ label, text, code }: { label: string; text: string; code?: boolean }) {
  return (
    <div>
      {label && <p className="muted small">{label}</p>}
      <p className={code ? "data-text mono" : "data-text"}>{text}</p>
    </div>
  );
}

function Editor({ row, drafts }: { row: Row; drafts: Drafts }) {
  const t = useWords(WORDS);
  const state = stateOf(drafts.edits, row.row);
  const restore = state && (
    <Button small icon="redo" onClick={() => drafts.set(withoutRow(drafts.edits, row.row))}>
      {t("restore")}
    </Button>
  );
  if (state === "removed") return <Notice kind="warn" action={restore}>{t("removed")}</Notice>;
  return (
    <div className="stack">
      {row.texts.length === 0 && <p className="muted">{t("fixed")}</p>}
      {row.texts.map((one) => (
        <TextField
          key={one.label}
          label={one.label}
          text={textAt(drafts.edits, row.row, one.path, one.text)}
          onChange={(text) => drafts.set(withEdit(drafts.edits, { row: row.row, path: one.path, text }, one.text))}
        />
      ))}
      <div className="row">
        {restore}
        <Button small kind="danger" icon="trash" onClick={() => drafts.set(withEdit(drafts.edits, { row: row.row, path: [], text: null }, null))}>
          {t("remove")}
        </Button>
      </div>
    </div>
  );
}

function TextField({ label, text, onChange }: { label: string; text: string; onChange: (text: string) => void }) {
  const lines = Math.min(12, Math.max(1, Math.ceil(text.length / 70), text.split("\n").length));
  return (
    <label className="field">
      <span className="label mono">{label || "text"}</span>
      <textarea className="input" rows={lines} value={text} onChange={(event) => onChange(event.target.value)} />
    </label>
  );
}
