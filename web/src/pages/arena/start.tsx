// Begin a round: the prompt, who answers it, and how; beside it the rounds of before.
import { useEffect, useRef, useState } from "react";
import { newId, send } from "../../api";
import { date } from "../../format";
import { usePreferences, useWords } from "../../preferences";
import { Link, navigate } from "../../router";
import { Await, Badge, Button, Card, Empty, Failed, Field, Notice, Slider } from "../../ui";
import { useAction, useGet, useKept, useQuery } from "../../use";
import { another, contestants, nameOf, named, type Contestant, type Overview } from "./rounds";

const WORDS = {
  prompt: ["Prompt", "提示"],
  placeholder: ["What shall they all answer?", "要让它们都回答什么？"],
  who: ["Who answers", "由谁回答"],
  contestant: ["Model {number}", "模型 {number}"],
  weights: ["Weights of model {number}", "模型 {number} 的权重"],
  stored: ["as stored", "原样"],
  add: ["Add a model", "添加模型"],
  remove: ["Remove model {number}", "移除模型 {number}"],
  same: ["Two of them are the same. Choose another model or other weights.", "其中两个相同。请选择其他模型或其他权重。"],
  how: ["How they are asked", "提问方式"],
  temperature: ["Temperature", "温度"],
  tokens: ["Longest answer (tokens)", "最长回答（词元）"],
  seed: ["Seed", "种子"],
  seedHelp: ["The same for all sides. Empty: another one for every round.", "各方相同。留空则每轮使用新的种子。"],
  start: ["Start the round", "开始对局"],
  loading: ["The models are being loaded. The first time this may take a minute.", "正在加载模型，第一次可能需要一分钟。"],
  recent: ["Recent rounds", "最近的对局"],
  none: ["No round yet", "还没有对局"],
  voted: ["voted", "已投票"],
  open: ["to be judged", "待评判"],
  few: ["There is no model yet", "还没有模型"],
  fewHelp: ["Train one first; then it can be compared with its own quantized weights, or with another.", "请先训练一个模型，然后可与其量化版本或其他模型比较。"],
} as const;

export interface Sampling {
  temperature: number;
  max_tokens: number;
  seed: string;
}

const SAMPLING: Sampling = { temperature: 0.7, max_tokens: 256, seed: "" };
const SEEDS = 2 ** 31;

export function Start() {
  const overview = useGet<Overview>("/studio/arena");
  return (
    <Await of={overview}>
      {(found) => (
        <div className="arena-start">
          <Form overview={found} />
          <Recent rounds={found.rounds} />
        </div>
      )}
    </Await>
  );
}

function Form({ overview }: { overview: Overview }) {
  const t = useWords(WORDS);
  const [prompt, setPrompt] = useKept("arena.prompt", "");
  const [kept, setKept] = useKept<Contestant[]>("arena.models", []);
  const [sampling, setSampling] = useKept("arena.sampling", SAMPLING);
  const [asked, setAsked] = useQuery("models"); // whom a link asks for
  useEffect(() => {
    if (!asked) return;
    setKept(asked.split(",").map(named));
    setAsked("");
  }, [asked, setAsked, setKept]);
  const id = useRef(newId()); // kept for another try, so that it is the same round
  const chosen = contestants(kept, overview);
  const same = new Set(chosen.map(nameOf)).size < chosen.length;
  const begin = useAction(async () => {
    const seed = sampling.seed === "" ? Math.floor(Math.random() * SEEDS) : Number(sampling.seed);
    const { temperature, max_tokens } = sampling;
    try {
      await send("POST", "/studio/arena/rounds", { id: id.current, prompt, models: chosen.map(nameOf), temperature, max_tokens, seed });
    } catch (error) {
      if ((error as { code?: string }).code === "conflict") id.current = newId();
      throw error;
    }
    setPrompt("");
    navigate(`/arena/${id.current}`);
  });
  if (chosen.length < 2)
    return (
      <Card>
        <Empty icon="arena" title={t("few")}>
          <p>{t("fewHelp")}</p>
        </Empty>
      </Card>
    );
  const ready = prompt.trim() !== "" && !same && !begin.busy;
  return (
    <Card>
      <form
        className="stack"
        onSubmit={(event) => {
          event.preventDefault();
          if (ready) void begin.run();
        }}
      >
        <Field label={t("prompt")}>
          {(name) => (
            <textarea
              id={name}
              className="input"
              rows={5}
              maxLength={50_000}
              placeholder={t("placeholder")}
              value={prompt}
              onChange={(event) => setPrompt(event.target.value)}
              onKeyDown={(event) => {
                if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.nativeEvent.isComposing && ready) void begin.run();
              }}
            />
          )}
        </Field>
        <Contestants chosen={chosen} overview={overview} onChange={setKept} />
        {same && <Notice kind="warn">{t("same")}</Notice>}
        <Settings value={sampling} onChange={setSampling} />
        {begin.busy && <Notice>{t("loading")}</Notice>}
        {begin.error && <Failed error={begin.error} />}
        <div className="row">
          <Button kind="primary" type="submit" icon="play" disabled={!ready} data-testid="start-round">
            {t("start")}
          </Button>
        </div>
      </form>
    </Card>
  );
}

function Contestants({ chosen, overview, onChange }: { chosen: Contestant[]; overview: Overview; onChange: (chosen: Contestant[]) => void }) {
  const t = useWords(WORDS);
  const change = (place: number, to: Partial<Contestant>) => onChange(chosen.map((one, at) => (at === place ? { ...one, ...to } : one)));
  const next = another(chosen, overview);
  return (
    <fieldset className="field">
      <legend className="arena-legend">{t("who")}</legend>
      <ul className="arena-contestants">
        {chosen.map((one, place) => (
          <li key={place}>
            <select className="input" aria-label={t("contestant", { number: place + 1 })} value={one.model} onChange={(event) => change(place, { model: event.target.value })}>
              {overview.models.map((model) => (
                <option key={model}>{model}</option>
              ))}
            </select>
            <select className="input" aria-label={t("weights", { number: place + 1 })} value={one.weights} onChange={(event) => change(place, { weights: event.target.value })}>
              <option value="">{t("stored")}</option>
              {overview.weights.map((weights) => (
                <option key={weights}>{weights}</option>
              ))}
            </select>
            <Button kind="quiet" icon="close" label={t("remove", { number: place + 1 })} disabled={chosen.length <= 2} onClick={() => onChange(chosen.filter((_, at) => at !== place))} />
          </li>
        ))}
      </ul>
      {chosen.length < overview.most && next && (
        <div>
          <Button kind="quiet" small icon="plus" onClick={() => onChange([...chosen, next])}>
            {t("add")}
          </Button>
        </div>
      )}
    </fieldset>
  );
}

function Settings({ value, onChange }: { value: Sampling; onChange: (value: Sampling) => void }) {
  const t = useWords(WORDS);
  const [open, setOpen] = useState(false);
  return (
    <details className="arena-settings" open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{t("how")}</summary>
      <div className="grid">
        <Slider label={t("temperature")} value={value.temperature} min={0} max={2} step={0.05} shown={value.temperature.toFixed(2)} onChange={(temperature) => onChange({ ...value, temperature })} />
        <Slider label={t("tokens")} value={value.max_tokens} min={16} max={1024} step={16} onChange={(max_tokens) => onChange({ ...value, max_tokens })} />
        <Field label={t("seed")} help={t("seedHelp")}>
          {(name) => <input id={name} className="input" type="number" min={0} max={SEEDS - 1} step={1} value={value.seed} onChange={(event) => onChange({ ...value, seed: event.target.value })} />}
        </Field>
      </div>
    </details>
  );
}

function Recent({ rounds }: { rounds: Overview["rounds"] }) {
  const t = useWords(WORDS);
  const { language } = usePreferences();
  return (
    <Card title={t("recent")}>
      {rounds.length === 0 ? (
        <Empty icon="arena" title={t("none")} />
      ) : (
        <ul className="arena-recent">
          {rounds.map((round) => (
            <li key={round.id}>
              <Link to={`/arena/${round.id}`}>{round.prompt}</Link>
              <span className="row">
                <Badge kind={round.voted ? "good" : "accent"}>{t(round.voted ? "voted" : "open")}</Badge>
                <span className="muted small number">{date(round.created, language)}</span>
              </span>
            </li>
          ))}
        </ul>
      )}
    </Card>
  );
}
