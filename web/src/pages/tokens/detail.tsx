// One place of a text: how the model found the token there, what it expected, and what temperature and top-p make of it.
import { useMemo } from "react";
import { count, percent } from "../../format";
import { useWords } from "../../preferences";
import { Button, Card, Failed, Loading, Slider } from "../../ui";
import { unpack, useAnswer } from "../../ui/reader";
import { visible, written } from "../../ui/token";
import { draw, sorted, type Drawn, type Sorted } from "./distribution";
import { surprise, type Lens } from "./words";

const WORDS = {
  next: ["What comes next", "接下来会是什么"],
  token: ["Token {place}: {text}", "词元 {place}：{text}"],
  first: ["Nothing came before the first token, so the model expected nothing.", "第一个词元之前没有内容，因此模型没有预期。"],
  probability: ["Probability", "概率"],
  surprise: ["Surprise", "惊讶度"],
  rank: ["Rank", "排名"],
  of: ["{rank} of {all}", "{rank} / {all}"],
  entropy: ["Entropy", "熵"],
  bits: ["{bits} bits", "{bits} 比特"],
  bytes: ["Bytes", "字节"],
  temperature: ["Temperature", "温度"],
  topP: ["Top-p", "Top-p"],
  reset: ["As the model is", "恢复模型原样"],
  expected: ["What the model expected", "模型的预期"],
  now: ["With these settings: {kept} tokens left, entropy {bits} bits.", "在此设置下：剩余 {kept} 个词元，熵 {bits} 比特。"],
  others: ["{count} others", "其余 {count} 个"],
  here: ["in the text", "文中"],
  branch: ["Write on from {text}", "从 {text} 继续写"],
  help: ["Click a token to go on from it, with these settings.", "点击一个词元，以这些设置从它继续写。"],
  length: ["Tokens that a branch writes", "每个分支写多少词元"],
} as const;

export interface Settings {
  temperature: number;
  topP: number;
  /** Tokens that a branch writes. */
  length: number;
}

export function Detail({ lens, at, settings, onSettings, onBranch, busy }: { lens: Lens; at: number; settings: Settings; onSettings: (settings: Settings) => void; onBranch: (id: number) => void; busy: boolean }) {
  const t = useWords(WORDS);
  const token = lens.tokens[at];
  const title = token ? t("token", { place: at, text: written(token) }) : t("next");
  const logits = useAnswer<{ logits: string }>("/studio/lens/logits", at > 0 ? { model: lens.model, ids: lens.ids.slice(0, at) } : null);
  const order = useMemo(() => logits.data && sorted(unpack(logits.data.logits)), [logits.data]);
  const drawn = useMemo(() => order && draw(order, settings.temperature, settings.topP), [order, settings.temperature, settings.topP]);
  if (at === 0)
    return (
      <Card title={title} data-testid="detail">
        <p className="muted">{t("first")}</p>
      </Card>
    );
  const expected = lens.expected[at - 1]!;
  return (
    <Card title={title} className="detail" data-testid="detail">
      <div className="stack">
        <dl className="facts">
          {token && expected.logprob !== null && (
            <>
              <dt>{t("probability")}</dt>
              <dd data-testid="probability">{percent(Math.exp(expected.logprob))}</dd>
              <dt>{t("surprise")}</dt>
              <dd>{t("bits", { bits: surprise(expected.logprob).toFixed(2) })}</dd>
              <dt>{t("rank")}</dt>
              <dd>{order ? t("of", { rank: count(expected.rank!), all: count(order.ids.length) }) : count(expected.rank!)}</dd>
            </>
          )}
          <dt>{t("entropy")}</dt>
          <dd>{t("bits", { bits: expected.entropy.toFixed(2) })}</dd>
          {token?.bytes && (
            <>
              <dt>{t("bytes")}</dt>
              <dd className="mono">
                {written(token)} {token.text && `(${token.text})`}
              </dd>
            </>
          )}
        </dl>
        <h3>{t("expected")}</h3>
        <div className="sliders">
          <Slider label={t("temperature")} value={settings.temperature} min={0} max={2} step={0.05} shown={settings.temperature.toFixed(2)} onChange={(temperature) => onSettings({ ...settings, temperature })} />
          <Slider label={t("topP")} value={settings.topP} min={0.05} max={1} step={0.01} shown={settings.topP.toFixed(2)} onChange={(topP) => onSettings({ ...settings, topP })} />
        </div>
        {logits.error && <Failed error={logits.error} retry={logits.reload} />}
        {order && drawn ? <Bars lens={lens} order={order} drawn={drawn} tops={expected.top.map(([id]) => id)} own={token?.id} onBranch={onBranch} busy={busy} /> : !logits.error && <Loading />}
        <Slider label={t("length")} value={settings.length} min={1} max={128} step={1} onChange={(length) => onSettings({ ...settings, length })} />
        <div className="row">
          {drawn && <span className="muted small number">{t("now", { kept: count(drawn.kept), bits: drawn.entropy.toFixed(2) })}</span>}
          {(settings.temperature !== 1 || settings.topP !== 1) && (
            <Button small kind="quiet" onClick={() => onSettings({ ...settings, temperature: 1, topP: 1 })}>
              {t("reset")}
            </Button>
          )}
        </div>
      </div>
    </Card>
  );
}

/** The likeliest tokens, and that of the text where it is none of them; the share of all others is the last row. */
export function Bars({ lens, order, drawn, tops, own, onBranch, busy }: { lens: Lens; order: Sorted; drawn: Drawn; tops: number[]; own: number | undefined; onBranch: (id: number) => void; busy: boolean }) {
  const t = useWords(WORDS);
  const shown = own === undefined || tops.includes(own) ? tops : [...tops, own];
  const places = useMemo(() => new Map(Array.from(order.ids, (id, place) => [id, place])), [order]);
  const share = (id: number) => drawn.probabilities[places.get(id)!]!;
  const rest = Math.max(0, 1 - shown.reduce((sum, id) => sum + share(id), 0));
  const spell = (id: number) => visible(lens.spelled[id] ?? (id === own ? lens.tokens.find((one) => one.id === id)!.text ?? "" : ""));
  return (
    <>
      <p className="muted small">{t("help")}</p>
      <ol className="bars" data-testid="bars">
        {shown.map((id) => (
          <li key={id}>
            <button type="button" className="alternative" disabled={busy} title={t("branch", { text: spell(id) })} data-id={id} data-share={share(id)} onClick={() => onBranch(id)}>
              <span className="fill" style={{ width: `${100 * share(id)}%` }} />
              <span className="text">
                {spell(id)}
                {id === own && <span className="badge accent">{t("here")}</span>}
              </span>
              <span className="number">{percent(share(id))}</span>
            </button>
          </li>
        ))}
        {order.ids.length > shown.length && (
          <li className="others muted small">
            <span>{t("others", { count: count(order.ids.length - shown.length) })}</span>
            <span className="number">{percent(rest)}</span>
          </li>
        )}
      </ol>
    </>
  );
}
