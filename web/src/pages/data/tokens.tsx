// A row as tokens: each with its id, and in colour what the model learns to say.
import { useState } from "react";
import { count } from "../../format";
import { useWords } from "../../preferences";
import { Await, Field, Notice } from "../../ui";
import { useGet } from "../../use";
import type { Tokens } from "./types";

const WORDS = {
  model: ["Tokenizer and template of", "所用模型的分词器与模板"],
  bytes: ["bytes (no model)", "字节（无模型）"],
  counts: ["{total} tokens, {learned} learned ({share} %)", "{total} 个词元，学习其中 {learned} 个（{share} %）"],
  template: ["template {name}", "模板 {name}"],
  learned: ["learned", "学习"],
  context: ["only read", "只读"],
  special: ["control token", "控制词元"],
  ids: ["Show ids", "显示编号"],
  cut: ["The first {count} tokens are shown.", "只显示前 {count} 个词元。"],
} as const;

export interface ModelChoice {
  models: string[];
  model: string;
  onModel: (model: string) => void;
}

export function ModelSelect({ models, model, onModel }: ModelChoice) {
  const t = useWords(WORDS);
  return (
    <Field label={t("model")}>
      {(id) => (
        <select id={id} className="input" value={model} onChange={(event) => onModel(event.target.value)}>
          {models.map((name) => (
            <option key={name} value={name}>
              {name === "bytes" ? t("bytes") : name}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

export function TokenView({ name, number, ...choice }: { name: string; number: number } & ModelChoice) {
  const t = useWords(WORDS);
  const [ids, setIds] = useState(false);
  const path = choice.model && `/studio/datasets/tokens?name=${encodeURIComponent(name)}&row=${number}&model=${encodeURIComponent(choice.model)}`;
  const tokens = useGet<Tokens>(path || null);
  return (
    <div className="stack">
      <ModelSelect {...choice} />
      <Await of={tokens}>
        {(found) => (
          <>
            <div className="row small data-legend">
              <span className="number">{t("counts", { total: count(found.total), learned: count(found.learned), share: Math.round((100 * found.learned) / Math.max(1, found.total)) })}</span>
              {found.template && <span className="muted">{t("template", { name: found.template })}</span>}
              <span className="data-token learned">{t("learned")}</span>
              <span className="data-token">{t("context")}</span>
              <span className="data-token special">{t("special")}</span>
              <label className="row data-check">
                <input type="checkbox" checked={ids} onChange={(event) => setIds(event.target.checked)} /> {t("ids")}
              </label>
            </div>
            <TokenLine tokens={found} ids={ids} />
            {(found.cut || found.ids.length < found.total) && <Notice>{t("cut", { count: count(found.ids.length) })}</Notice>}
          </>
        )}
      </Await>
    </div>
  );
}

/** A token as it is shown: what cannot be seen gets a sign, and a line end ends the line too. */
export function visible(text: string): string {
  return text.replace(/ /g, "·").replace(/\t/g, "→\t").replace(/\n/g, "↵\n") || "∅";
}

export function TokenLine({ tokens, ids }: { tokens: Tokens; ids: boolean }) {
  return (
    <p className={`data-tokens ${ids ? "with-ids" : ""}`} data-testid="tokens">
      {tokens.ids.map((id, place) => {
        const classes = ["data-token", tokens.mask[place] && "learned", tokens.special[place] && "special"].filter(Boolean).join(" ");
        return (
          <span key={place} className={classes} title={String(id)}>
            {visible(tokens.texts[place]!)}
            {ids && <small>{id}</small>}
          </span>
        );
      })}
    </p>
  );
}
