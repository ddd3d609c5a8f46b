// The list of runs: a row each, sorted and filtered by the address, with a mark for each that the chart shows.
import { date, short } from "../../format";
import { usePreferences, useWords } from "../../preferences";
import { Link } from "../../router";
import { Badge, Button, Empty, Field } from "../../ui";
import { useQuery } from "../../use";
import { COLUMNS, NEWEST, joinNames, value, type Column, type Run } from "./data";
import { WORDS } from "./words";

const NUMBERS: readonly Column[] = ["step", "train_loss", "validation_loss", "tokens_per_second", "parameters", "tokens"];

export function RunTable({ runs, shown, colors, setChosen }: { runs: Run[]; shown: Run[]; colors: ReadonlyMap<string, number>; setChosen: (given: string | null) => void }) {
  const t = useWords(WORDS);
  const [text, setText] = useQuery("q");
  const [stage, setStage] = useQuery("stage");
  const [order, setOrder] = useQuery("sort", "-changed");
  const stages = [...new Set(runs.map((run) => run.stage).filter((one) => one !== null))].sort();
  const chosen = [...colors.keys()];
  const toggle = (name: string) => setChosen(joinNames(colors.has(name) ? chosen.filter((one) => one !== name) : [...chosen, name]));
  const turn = (column: Column) => setOrder(order === column ? `-${column}` : order === `-${column}` ? column : NUMBERS.includes(column) || column === "changed" ? `-${column}` : column);
  return (
    <div className="stack">
      <div className="row runs-filter">
        <Field label={t("filter")}>{(id) => <input id={id} className="input" type="search" value={text} onChange={(event) => setText(event.target.value)} />}</Field>
        <Field label={t("stage")}>
          {(id) => (
            <select id={id} className="input" value={stage} onChange={(event) => setStage(event.target.value)}>
              <option value="">{t("any")}</option>
              {stages.map((one) => (
                <option key={one}>{one}</option>
              ))}
            </select>
          )}
        </Field>
        <div className="row runs-choose">
          <span className="muted small number" data-testid="chosen">
            {t("chosen", { count: chosen.length, all: runs.length })}
          </span>
          <Button small kind="quiet" onClick={() => setChosen("*")}>
            {t("choose_all")}
          </Button>
          <Button small kind="quiet" onClick={() => setChosen(null)}>
            {t("choose_newest", { count: Math.min(NEWEST, runs.length) })}
          </Button>
          <Button small kind="quiet" onClick={() => setChosen("")}>
            {t("choose_none")}
          </Button>
        </div>
      </div>
      {shown.length === 0 ? (
        <Empty icon="search" title={t("no_match")} />
      ) : (
        <div className="scroll">
          <table className="runs-table">
            <thead>
              <tr>
                <th>
                  <span className="unseen">{t("curves")}</span>
                </th>
                {COLUMNS.map((column) => (
                  <th key={column} className={NUMBERS.includes(column) ? "number" : ""} aria-sort={order === column ? "ascending" : order === `-${column}` ? "descending" : "none"}>
                    <button type="button" className="runs-sort" title={t("sort", { column: t(column) })} onClick={() => turn(column)}>
                      {t(column)}
                      <span aria-hidden="true">{order === column ? "↑" : order === `-${column}` ? "↓" : ""}</span>
                    </button>
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {shown.map((run) => (
                <Row key={run.name} run={run} color={colors.get(run.name)} toggle={toggle} />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </div>
  );
}

function Row({ run, color, toggle }: { run: Run; color: number | undefined; toggle: (name: string) => void }) {
  const t = useWords(WORDS);
  const { language } = usePreferences();
  return (
    <tr data-testid="run">
      <td>
        <input type="checkbox" className={`runs-mark ${color ? `series-${color}` : ""}`} checked={color !== undefined} aria-label={t("show_in_chart", { name: run.name })} onChange={() => toggle(run.name)} />
      </td>
      <td className="runs-name">
        <Link to={`/runs/${encodeURIComponent(run.name)}`}>{run.name}</Link>
      </td>
      <td>{run.stage ? <Badge>{run.stage}</Badge> : "–"}</td>
      <td className="number">{run.steps && run.step < run.steps ? t("of_steps", { step: value(run.step), steps: value(run.steps) }) : value(run.step)}</td>
      <td className="number">{value(run.train_loss)}</td>
      <td className="number">{value(run.validation_loss)}</td>
      <td className="number">{run.tokens_per_second === null ? "–" : value(Math.round(run.tokens_per_second))}</td>
      <td className="number">{run.parameters === null ? "–" : short(run.parameters)}</td>
      <td className="number">{run.tokens === null ? "–" : short(run.tokens)}</td>
      <td className="runs-when">{date(run.changed, language)}</td>
    </tr>
  );
}
