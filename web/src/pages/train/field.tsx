// One field of a recipe: what it takes decides how it is asked.
import { useId } from "react";
import { usePreferences, useWords } from "../../preferences";
import { Button, Field } from "../../ui";
import { asSources, fromSources, rangeOf, shownDefault, typedNumber, type FieldOf, type Form } from "./forms";
import { helpOf, labelOf } from "./labels";

const WORDS = {
  asDefault: ["As by default ({value})", "默认（{value}）"],
  empty: ["empty", "空"],
  add: ["Add a source", "添加来源"],
  remove: ["Remove source {number}", "移除来源 {number}"],
  weight: ["Weight of source {number}", "来源 {number} 的权重"],
  source: ["Source {number}", "来源 {number}"],
  lines: ["one a line", "每行一个"],
  required: ["required", "必填"],
} as const;

interface Props {
  field: FieldOf;
  value: unknown;
  problem: string | undefined;
  choices: Form["choices"];
  onChange: (value: unknown) => void;
}

export function RecipeField({ field, value, problem, choices, onChange }: Props) {
  const { language } = usePreferences();
  const t = useWords(WORDS);
  const range = rangeOf(field);
  const help = [helpOf(field.key, field.help, language), range].filter(Boolean).join(" ");
  const label = (
    <>
      {labelOf(field.key, language)}
      {field.required && <span className="muted small">{t("required")}</span>}
    </>
  );
  return (
    <div data-testid={`field-${field.key}`}>
      <Field label={label} help={help} problem={problem}>
        {(id) => <Control id={id} field={field} value={value} wrong={problem !== undefined} choices={choices} onChange={onChange} />}
      </Field>
    </div>
  );
}

function Control({ id, field, value, wrong, choices, onChange }: { id: string; field: FieldOf; value: unknown; wrong: boolean; choices: Form["choices"]; onChange: (value: unknown) => void }) {
  const t = useWords(WORDS);
  const shown = { id, className: "input", "aria-invalid": wrong, "aria-required": field.required } as const;
  const preset = shownDefault(field.default);
  const text = value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
  switch (field.type) {
    case "choice":
    case "boolean": {
      const options: (string | number | boolean)[] = field.type === "boolean" ? [true, false] : field.choices!;
      return (
        <select {...shown} value={text} onChange={(event) => onChange(options.find((one) => String(one) === event.target.value) ?? "")}>
          <option value="">{t("asDefault", { value: preset || t("empty") })}</option>
          {options.map((one) => (
            <option key={String(one)} value={String(one)}>
              {String(one)}
            </option>
          ))}
        </select>
      );
    }
    case "integer":
    case "number":
      return <input {...shown} inputMode="decimal" placeholder={preset} value={text} onChange={(event) => onChange(typedNumber(event.target.value))} />;
    case "lines":
      return <textarea {...shown} rows={2} placeholder={preset || t("lines")} value={Array.isArray(value) ? value.join("\n") : ""} onChange={(event) => onChange(event.target.value === "" ? [] : event.target.value.split("\n"))} />;
    case "sources":
      return <Sources id={id} value={value} wrong={wrong} paths={choices.data} onChange={onChange} />;
    case "data":
    case "checkpoint":
    case "tokenizer":
      return <PathInput {...shown} value={text} paths={choices[field.type]} onChange={onChange} />;
    default:
      return <input {...shown} className={field.type === "yaml" ? "input mono" : "input"} placeholder={preset} value={text} onChange={(event) => onChange(event.target.value)} />;
  }
}

/** A path that is typed, with those of the workspace to choose from. */
function PathInput({ paths, onChange, ...shown }: { id: string; className: string; value: string; paths: string[]; onChange: (value: string) => void; "aria-invalid"?: boolean; "aria-label"?: string }) {
  const list = useId();
  return (
    <>
      <input {...shown} list={list} autoComplete="off" spellCheck={false} onChange={(event) => onChange(event.target.value)} />
      <datalist id={list}>
        {paths.map((path) => (
          <option key={path} value={path} />
        ))}
      </datalist>
    </>
  );
}

function Sources({ id, value, wrong, paths, onChange }: { id: string; value: unknown; wrong: boolean; paths: string[]; onChange: (value: unknown) => void }) {
  const t = useWords(WORDS);
  const found = asSources(value);
  const sources = found.length ? found : [{ path: "" }];
  const change = (place: number, next: object) => onChange(fromSources(sources.map((one, at) => (at === place ? { ...one, ...next } : one))));
  return (
    <div className="sources">
      {sources.map((source, place) => (
        <div key={place} className="source">
          <PathInput id={place === 0 ? id : `${id}-${place}`} className="input" aria-invalid={wrong} aria-label={t("source", { number: place + 1 })} value={source.path} paths={paths} onChange={(path) => change(place, { path })} />
          {sources.length > 1 && (
            <>
              <input className="input weight" inputMode="decimal" aria-label={t("weight", { number: place + 1 })} value={String(source.weight ?? 1)} onChange={(event) => change(place, { weight: typedNumber(event.target.value) })} />
              <Button kind="quiet" icon="close" label={t("remove", { number: place + 1 })} onClick={() => onChange(fromSources(sources.filter((_, at) => at !== place)))} />
            </>
          )}
        </div>
      ))}
      <Button kind="quiet" small icon="plus" onClick={() => onChange([...sources, { path: "", weight: 1 }])}>
        {t("add")}
      </Button>
    </div>
  );
}
