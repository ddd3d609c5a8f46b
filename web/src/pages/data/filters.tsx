// Filters: what they would leave of a file, told before a new version is made with them.
import { useRef, useState } from "react";
import { newId, send } from "../../api";
import { count } from "../../format";
import { useWords } from "../../preferences";
import { navigate } from "../../router";
import { Button, Card, Failed, Field } from "../../ui";
import { useAction, useQuery } from "../../use";
import { Lines } from "./bars";
import type { About, Made, Seen } from "./types";

const WORDS = {
  title: ["Leave out", "去除"],
  help: ["Nothing is changed here: a new version of the file is made, and a record beside it says which filters made it.", "原文件不会改变：会生成文件的新版本，旁边的记录写明用了哪些过滤。"],
  bad: ["rows that training cannot read, or without text", "训练无法读取或没有文字的行"],
  duplicates: ["rows whose text stood there before", "文字与前面某行相同的行"],
  broken: ["rows with control or broken characters", "含控制字符或损坏字符的行"],
  traces: ["rows with what seems an address or a personal number", "疑似含邮箱、电话或证件号码的行"],
  min_characters: ["rows of fewer characters than", "字符数少于此数的行"],
  max_characters: ["rows of more characters than (0: no limit)", "字符数多于此数的行（0：不限）"],
  try: ["Count", "统计"],
  save: ["Save as a new version", "存为新版本"],
  result: ["{after} of {before} rows stay", "{before} 行中保留 {after} 行"],
  counted: ["Counted over the first {count} rows; the new version is made of all.", "统计的是前 {count} 行；新版本由全部数据生成。"],
  all: ["Counted over all rows.", "统计的是全部行。"],
  nothing: ["No row would be left out.", "没有要去除的行。"],
} as const;
const SWITCHES = ["bad", "duplicates", "broken", "traces"] as const;
const NUMBERS = ["min_characters", "max_characters"] as const;
const REASONS: readonly string[] = [...SWITCHES, ...NUMBERS];

type Recipe = Record<(typeof SWITCHES)[number], boolean> & Record<(typeof NUMBERS)[number], number>;
const START: Recipe = { bad: true, duplicates: true, broken: false, traces: false, min_characters: 0, max_characters: 0 };

/** Filters as a part of the address, "bad,duplicates,min_characters=20", and back. */
export function toWords(recipe: Recipe): string {
  const numbers = NUMBERS.filter((name) => recipe[name] > 0).map((name) => `${name}=${recipe[name]}`);
  return [...SWITCHES.filter((name) => recipe[name]), ...numbers].join(",") || "none";
}

export function fromWords(words: string): Recipe {
  if (!words) return START;
  const given = new Map(words.split(",").map((word) => word.split("=") as [string, string | undefined]));
  const number = (name: string) => Math.max(0, Math.floor(Number(given.get(name) ?? 0)) || 0);
  return {
    bad: given.has("bad"),
    duplicates: given.has("duplicates"),
    broken: given.has("broken"),
    traces: given.has("traces"),
    min_characters: number("min_characters"),
    max_characters: number("max_characters"),
  };
}

interface Tried extends Seen {
  before: number;
  after: number;
  left_out: Record<string, number>;
}

export function Filters({ about }: { about: About }) {
  const t = useWords(WORDS);
  const [words, setWords] = useQuery("leave");
  const [tried, setTried] = useState<Tried | null>(null);
  const recipe = fromWords(words);
  const id = useRef(newId());
  const change = (part: Partial<Recipe>) => {
    setWords(toWords({ ...recipe, ...part }));
    setTried(null);
    id.current = newId();
  };
  const tally = useAction(async () => setTried(await send<Tried>("POST", "/studio/datasets/filter", { name: about.name, filters: recipe })));
  const save = useAction(async () => {
    const made = await send<Made>("POST", "/studio/datasets/versions", { id: id.current, name: about.name, stamp: about.stamp, filters: recipe });
    navigate(`/data/${encodeURIComponent(made.name)}`);
  });
  return (
    <div className="data-filters">
      <Card title={t("title")}>
        <form
          className="stack"
          onSubmit={(event) => {
            event.preventDefault();
            void tally.run();
          }}
        >
          {SWITCHES.map((name) => (
            <label key={name} className="data-check">
              <input type="checkbox" checked={recipe[name]} onChange={(event) => change({ [name]: event.target.checked })} /> {t(name)}
            </label>
          ))}
          {NUMBERS.map((name) => (
            <Field key={name} label={t(name)}>
              {(field) => <input id={field} className="input" type="number" min={0} value={recipe[name]} onChange={(event) => change({ [name]: Math.max(0, Math.floor(event.target.valueAsNumber) || 0) })} />}
            </Field>
          ))}
          <div className="row">
            <Button type="submit" kind="primary" disabled={tally.busy}>
              {t("try")}
            </Button>
            <Button disabled={save.busy || tried === null || tried.after === tried.before} onClick={() => void save.run()}>
              {t("save")}
            </Button>
          </div>
          <p className="muted small">{t("help")}</p>
          {(tally.error ?? save.error) && <Failed error={(tally.error ?? save.error)!} />}
        </form>
      </Card>
      {tried && (
        <Card title={<span data-testid="filtered">{t("result", { after: count(tried.after), before: count(tried.before) })}</span>}>
          <div className="stack">
            <p className="muted small">{tried.all ? t("all") : t("counted", { count: count(tried.seen) })}</p>
            {tried.after === tried.before && <p>{t("nothing")}</p>}
            <Lines bars={Object.entries(tried.left_out).map(([name, value]) => ({ name: REASONS.includes(name) ? t(name as keyof Recipe) : name, value }))} all={tried.before} />
          </div>
        </Card>
      )}
    </div>
  );
}
