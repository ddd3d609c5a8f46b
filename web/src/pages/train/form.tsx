// A new training: a form made of a recipe's schema, the recipe and the command that it amounts to, and the start.
import { useEffect, useState } from "react";
import { ApiError, get, newId, send } from "../../api";
import { usePreferences, useWords } from "../../preferences";
import { navigate, usePlace } from "../../router";
import { Await, Button, Card, CopyButton, Dialog, Failed, Field, Notice, Tabs } from "../../ui";
import { useAction, useGet, useKept, useQuery } from "../../use";
import { CostCard, PresetsCard } from "./cost";
import { RecipeField } from "./field";
import { foldedGroups, shownProblems, withValue, type Form, type Values } from "./forms";
import { groupOf, verbOf, VERB_NAMES } from "./labels";

const WORDS = {
  title: ["New training", "新的训练"],
  lead: ["Only what you change is written into the recipe; everything else is as by default.", "只有改动过的设置会写进配方，其余保持默认。"],
  verb: ["What to make", "做什么"],
  from: ["Begin with", "从配方开始"],
  blank: ["an empty form", "空白表单"],
  basics: ["Basics", "基本设置"],
  more: ["More settings", "更多设置"],
  set: ["{count} set", "已设 {count} 项"],
  preview: ["Preview", "预览"],
  recipe: ["Recipe", "配方"],
  command: ["Command", "命令"],
  copy: ["Copy", "复制"],
  start: ["Start training", "开始训练"],
  clear: ["Clear the form", "清空表单"],
  anyway: ["Start anyway", "仍然开始"],
  cancel: ["Cancel", "取消"],
  twoTitle: ["Another training runs", "另一个训练正在进行"],
  two: ["{run} is being trained. Two trainings share the cores: both take about twice as long, and the memory must hold both.", "{run} 正在训练。两个训练共用处理器核心：各自大约要花两倍时间，内存也要同时容纳两者。"],
  wrong: ["Something in the form is not right; it is marked.", "表单中有需要修正的地方，已经标出。"],
  empty: ["# nothing is set yet", "# 还没有设置"],
} as const;

interface Checked {
  problems: Record<string, string>;
  recipe: string;
  command: string;
}

const NO_VALUES: Values = {};

export function NewTraining() {
  const t = useWords(WORDS);
  const { language } = usePreferences();
  const [verb, setVerb] = useQuery("verb", "pretrain");
  const [from, setFrom] = useQuery("from");
  const form = useGet<Form>(`/studio/train/form?verb=${encodeURIComponent(verb)}`);
  const points = useGet<{ points: { name: string; kind: string }[] }>("/studio/train/points");
  return (
    <div className="page">
      <div className="page-head">
        <div>
          <h1>{t("title")}</h1>
          <p>{t("lead")}</p>
        </div>
      </div>
      <Card>
        <div className="origin">
          <Field label={t("verb")}>
            {(id) => (
              <select id={id} className="input" value={verb} onChange={(event) => setVerb(event.target.value)}>
                {VERB_NAMES.map((name) => (
                  <option key={name} value={name}>
                    {verbOf(name, language)} · {name}
                  </option>
                ))}
              </select>
            )}
          </Field>
          <Field label={t("from")}>
            {(id) => (
              <select id={id} className="input" value={from} onChange={(event) => setFrom(event.target.value)}>
                <option value="">{t("blank")}</option>
                {points.data?.points.map((one) => (
                  <option key={one.name} value={one.name}>
                    {one.name}
                  </option>
                ))}
              </select>
            )}
          </Field>
        </div>
      </Card>
      <Await of={form}>{(found) => <Filling key={verb} form={found} from={from} onVerb={setVerb} />}</Await>
    </div>
  );
}

/** What the address says beside the form's own words: another page's wish, such as `?data=votes.jsonl`. */
function wished(query: URLSearchParams): Values {
  return Object.fromEntries([...query].filter(([key]) => key !== "verb" && key !== "from"));
}

function Filling({ form, from, onVerb }: { form: Form; from: string; onVerb: (verb: string) => void }) {
  const t = useWords(WORDS);
  const { query } = usePlace();
  const [values, setValues] = useKept<Values>(`train.${form.verb}`, NO_VALUES);
  const [begun, setBegun] = useKept<string>("train.from", "");
  const [checked, setChecked] = useState<Checked>({ problems: {}, recipe: "", command: "" });
  const [tried, setTried] = useState(false);
  const change = (key: string, value: unknown) => setValues(withValue(values, key, value));

  const begin = useAction(async () => {
    const found = await get<{ verb: string; values: Values }>(`/studio/train/begin?from=${encodeURIComponent(from)}`);
    localStorage.setItem(`smelt.train.${found.verb}`, JSON.stringify({ ...found.values, ...wished(query) }));
    setBegun(from);
    if (found.verb === form.verb) setValues({ ...found.values, ...wished(query) });
    else onVerb(found.verb);
  });
  useEffect(() => {
    if (from && from !== begun) void begin.run();
    else if (Object.keys(wished(query)).length) setValues({ ...values, ...wished(query) });
    if (!from && begun) setBegun("");
  }, [from]);

  useEffect(() => {
    let current = true;
    const timer = setTimeout(() => {
      send<Checked>("POST", "/studio/train/check", { verb: form.verb, values }).then(
        (found) => current && setChecked(found),
        (error: Error) => current && setChecked({ problems: { "": error.message }, recipe: "", command: "" }),
      );
    }, 250);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [form.verb, values]);

  const problems = shownProblems(checked.problems, form.fields, values, tried);
  return (
    <div className="filling">
      <div className="stack">
        {begin.error && <Failed error={begin.error} />}
        {problems[""] && <Notice kind="bad">{problems[""]}</Notice>}
        <Card title={t("basics")} actions={<Button kind="quiet" small onClick={() => setValues(NO_VALUES)}>{t("clear")}</Button>}>
          <div className="fields">
            {form.fields
              .filter((field) => field.basic)
              .map((field) => (
                <RecipeField key={field.key} field={field} value={values[field.key]} problem={problems[field.key]} choices={form.choices} onChange={(value) => change(field.key, value)} />
              ))}
          </div>
        </Card>
        <Folded form={form} values={values} problems={problems} onChange={change} />
      </div>
      <div className="stack beside">
        {form.verb === "pretrain" && <PresetsCard tokenizer={String(values.tokenizer ?? "")} onChoose={(chosen) => setValues(Object.entries(chosen).reduce((old, [key, value]) => withValue(old, key, value), lengthless(values)))} />}
        <CostCard verb={form.verb} values={values} onTried={() => setTried(true)} />
        <Preview checked={checked} />
        <Start verb={form.verb} values={values} wrong={tried && Object.keys(checked.problems).length > 0} onTried={() => setTried(true)} />
      </div>
    </div>
  );
}

/** A preset says how long a run is, in place of what was said before. */
function lengthless(values: Values): Values {
  return ["steps", "epochs", "minutes"].reduce((old, key) => withValue(old, key, ""), values);
}

function Folded({ form, values, problems, onChange }: { form: Form; values: Values; problems: Record<string, string>; onChange: (key: string, value: unknown) => void }) {
  const t = useWords(WORDS);
  const { language } = usePreferences();
  return (
    <Card title={t("more")} className="more">
      {foldedGroups(form, values).map(([group, fields]) => {
        const set = fields.filter((field) => field.key in values).length;
        const wrong = fields.some((field) => problems[field.key]);
        return (
          <details key={group} open={wrong || undefined}>
            <summary>
              <span>{groupOf(group, language)}</span>
              {set > 0 && <span className="badge accent">{t("set", { count: set })}</span>}
            </summary>
            {form.groups[group] && <p className="muted small">{form.groups[group]}</p>}
            <div className="fields">
              {fields.map((field) => (
                <RecipeField key={field.key} field={field} value={values[field.key]} problem={problems[field.key]} choices={form.choices} onChange={(value) => onChange(field.key, value)} />
              ))}
            </div>
          </details>
        );
      })}
    </Card>
  );
}

function Preview({ checked }: { checked: Checked }) {
  const t = useWords(WORDS);
  const [shown, setShown] = useKept<"recipe" | "command">("train.preview", "recipe");
  const text = checked[shown];
  return (
    <Card title={t("preview")} actions={<CopyButton text={text} label={t("copy")} />}>
      <Tabs tabs={{ recipe: t("recipe"), command: t("command") }} value={shown} onChange={setShown} label={t("preview")} />
      <pre className={`code preview ${shown}`} data-testid="preview" tabIndex={0}>
        {text || t("empty")}
      </pre>
    </Card>
  );
}

function Start({ verb, values, wrong, onTried }: { verb: string; values: Values; wrong: boolean; onTried: () => void }) {
  const t = useWords(WORDS);
  const [busyRun, setBusyRun] = useState<string | null>(null);
  const [id, setId] = useState(newId);
  const start = useAction(async (alongside: boolean) => {
    onTried();
    try {
      const made = await send<{ run: string }>("POST", "/studio/train/start", { verb, values, id, alongside });
      setId(newId());
      navigate(`/train/${encodeURIComponent(made.run)}`);
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== "training_runs") throw error;
      setBusyRun(error.param ?? "");
    }
  });
  return (
    <>
      {wrong ? <Notice kind="bad">{t("wrong")}</Notice> : start.error && <Failed error={start.error} />}
      <Button kind="primary" icon="play" disabled={start.busy} onClick={() => void start.run(false)} data-testid="start">
        {t("start")}
      </Button>
      {busyRun !== null && (
        <Dialog title={t("twoTitle")} onClose={() => setBusyRun(null)}>
          <p>{t("two", { run: busyRun })}</p>
          <div className="row">
            <Button kind="danger" onClick={() => (setBusyRun(null), void start.run(true))}>
              {t("anyway")}
            </Button>
            <Button onClick={() => setBusyRun(null)}>{t("cancel")}</Button>
          </div>
        </Dialog>
      )}
    </>
  );
}
