// The dry run: does it fit, how long does it take, how many tokens; and what this machine can do in some times.
import { send } from "../../api";
import { bytes, clock, count, short } from "../../format";
import { useWords } from "../../preferences";
import { Badge, Button, Card, Failed } from "../../ui";
import { useAction } from "../../use";
import { useState } from "react";
import type { Values } from "./forms";

const WORDS = {
  title: ["What it would cost", "开销估算"],
  run: ["Dry run", "试算"],
  lead: ["Nothing is trained: parameters and memory come from the recipe, the speed from a few steps on this machine.", "不会真正训练：参数量和内存由配方算出，速度在本机上测几步得到。"],
  measuring: ["Counting the text and measuring this machine …", "正在统计文本并测量本机速度……"],
  fits: ["It fits", "放得下"],
  tooLarge: ["It does not fit", "放不下"],
  memory: ["Memory", "内存"],
  of: ["{used} of {limit}", "{used} / {limit}"],
  time: ["Time", "时间"],
  unknown: ["not measured for this kind of model", "此类模型不测速"],
  parameters: ["Parameters", "参数量"],
  steps: ["Steps", "步数"],
  tokens: ["Tokens read", "读取的词元"],
  passes: ["Passes over the data", "遍历数据次数"],
  data: ["Tokens there are", "数据中的词元"],
  rows: ["Rows there are", "数据行数"],
  more: ["at least {number}", "至少 {number}"],
  speed: ["Tokens a second", "每秒词元数"],
  flops: ["Work", "计算量"],
  try: ["Try", "可以试试"],
  changed: ["The form has changed since.", "表单在此之后有改动。"],
  presets: ["What suits this machine", "适合这台机器的配置"],
  short: ["10 minutes", "10 分钟"],
  hour: ["1 hour", "1 小时"],
  night: ["A night", "一整夜"],
  ask: ["Measure this machine", "测量这台机器"],
  needs: ["Choose a tokenizer first.", "请先选择分词器。"],
  offer: ["{parameters} parameters on {tokens} tokens", "{parameters} 参数，{tokens} 词元"],
} as const;

interface Cost {
  fits: boolean;
  advice: string;
  memory_bytes: number;
  limit_bytes: number;
  parameters: number;
  data_tokens: number | null;
  data_rows: number;
  data_whole: boolean;
  steps: number | null;
  tokens: number | null;
  passes: number | null;
  flops: number | null;
  tokens_per_second: number | null;
  seconds: number | null;
}

interface Preset {
  name: "short" | "hour" | "night";
  values: Values;
  parameters: number;
  tokens: number;
}

export function CostCard({ verb, values, onTried }: { verb: string; values: Values; onTried: () => void }) {
  const t = useWords(WORDS);
  const [found, setFound] = useState<{ cost: Cost; of: Values } | null>(null);
  const ask = useAction(async () => {
    onTried();
    setFound({ cost: await send<Cost>("POST", "/studio/train/cost", { verb, values }), of: values });
  });
  return (
    <Card
      title={t("title")}
      data-testid="cost"
      actions={
        <Button small icon="search" disabled={ask.busy} onClick={() => void ask.run()}>
          {t("run")}
        </Button>
      }
    >
      <div className="stack" aria-live="polite">
        {ask.busy ? <p className="muted measuring"><span className="spinner" /> {t("measuring")}</p> : ask.error ? <Failed error={ask.error} /> : found ? <CostTable cost={found.cost} /> : <p className="muted">{t("lead")}</p>}
        {found && found.of !== values && !ask.busy && <p className="muted small">{t("changed")}</p>}
      </div>
    </Card>
  );
}

export function CostTable({ cost }: { cost: Cost }) {
  const t = useWords(WORDS);
  const data = cost.data_tokens === null ? short(cost.data_rows) : short(cost.data_tokens);
  const rows: [string, string][] = [
    [t("memory"), t("of", { used: bytes(cost.memory_bytes), limit: bytes(cost.limit_bytes) })],
    [t("time"), cost.seconds === null ? t("unknown") : clock(cost.seconds)],
    [t("tokens"), cost.tokens === null ? "–" : short(cost.tokens)],
    [t("steps"), cost.steps === null ? "–" : count(cost.steps)],
    [t("passes"), cost.passes === null ? "–" : cost.passes.toFixed(cost.passes < 10 ? 2 : 0)],
    [t(cost.data_tokens === null ? "rows" : "data"), cost.data_whole ? data : t("more", { number: data })],
    [t("parameters"), short(cost.parameters)],
    [t("speed"), cost.tokens_per_second === null ? "–" : count(Math.round(cost.tokens_per_second))],
    [t("flops"), cost.flops === null ? "–" : `${cost.flops.toExponential(1)} FLOPs`],
  ];
  return (
    <>
      <div className="row">
        <Badge kind={cost.fits ? "good" : "bad"}>{t(cost.fits ? "fits" : "tooLarge")}</Badge>
        {cost.advice && (
          <span className="small">
            {t("try")}: {cost.advice}
          </span>
        )}
      </div>
      <dl className="facts">
        {rows.map(([name, value]) => (
          <div key={name} className="fact">
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </>
  );
}

export function PresetsCard({ tokenizer, onChoose }: { tokenizer: string; onChoose: (values: Values) => void }) {
  const t = useWords(WORDS);
  const [found, setFound] = useState<Preset[]>([]);
  const ask = useAction(async () => setFound((await send<{ presets: Preset[] }>("POST", "/studio/train/presets", { tokenizer })).presets));
  return (
    <Card title={t("presets")} data-testid="presets">
      <div className="stack" aria-live="polite">
        {found.length > 0 && (
          <div className="choices">
            {found.map((one) => (
              <button key={one.name} type="button" className="choice" onClick={() => onChoose(one.values)}>
                <strong>{t(one.name)}</strong>
                <span className="muted small">{t("offer", { parameters: short(one.parameters), tokens: short(one.tokens) })}</span>
              </button>
            ))}
          </div>
        )}
        {ask.busy && (
          <p className="muted measuring">
            <span className="spinner" /> {t("measuring")}
          </p>
        )}
        {ask.error && <Failed error={ask.error} />}
        {found.length === 0 && !ask.busy && (
          <div className="row">
            <Button small disabled={!tokenizer} onClick={() => void ask.run()}>
              {t("ask")}
            </Button>
            {!tokenizer && <span className="muted small">{t("needs")}</span>}
          </div>
        )}
      </div>
    </Card>
  );
}
