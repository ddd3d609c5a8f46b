// Runs: all of them with their curves over each other, or one of them whole.
import { useDeferredValue, useEffect, useMemo, useState } from "react";
import { useWords } from "../../preferences";
import { Link, usePlace } from "../../router";
import { Await, Card, Empty, Failed, Loading, Notice, Tabs } from "../../ui";
import { useGet, useQuery } from "../../use";
import { Differences, ScalingLaw } from "./beside";
import { Controls, linesOf, setQuery, useCurves, useView, zoomTo } from "./controls";
import { chosenOf, joinNames, listed, type Broken, type Run } from "./data";
import { Exports } from "./exports";
import { OneRun } from "./one";
import { Plot } from "./plot";
import { RunTable } from "./table";
import { WORDS } from "./words";
import "./runs.css";

const LOOK_SECONDS = 10;
const COLORS = 8;
const FIRST_ROWS = 30; // of the table, beside curves that are still coming
const NAMED = 12; // curves below a chart by name; of more the table tells the colours
const SHOWN_BROKEN = 5;

export default function RunsPage() {
  const { parts } = usePlace();
  return parts[1] ? <OneRun key={parts[1]} name={parts[1]} /> : <AllRuns />;
}

function AllRuns() {
  const t = useWords(WORDS);
  const found = useGet<{ runs: Run[] }>("/studio/runs", LOOK_SECONDS);
  return (
    <div className="page">
      <div className="page-head">
        <div>
          <h1>{t("title")}</h1>
          <p>{t("lead")}</p>
        </div>
      </div>
      <Await of={found}>
        {({ runs }) =>
          runs.length === 0 ? (
            <Empty icon="runs" title={t("none")}>
              <p>{t("none_help")}</p>
              <Link to="/train" className="button primary">
                {t("train")}
              </Link>
            </Empty>
          ) : (
            <Overlay runs={runs} />
          )
        }
      </Await>
    </div>
  );
}

function Overlay({ runs }: { runs: Run[] }) {
  const t = useWords(WORDS);
  const { query } = usePlace();
  const [tab, setTab] = useQuery("view", "list");
  const given = query.get("runs");
  const [text, stage, order] = [query.get("q") ?? "", query.get("stage") ?? "", query.get("sort") ?? "-changed"];
  const shown = useMemo(() => listed(runs, text, stage, order), [runs, text, stage, order]);
  const [drawn, setDrawn] = useState(false);
  const rows = useDeferredValue(drawn ? shown : shown.slice(0, FIRST_ROWS), null); // a long table waits for the curves
  const names = useMemo(() => chosenOf(given, runs, shown), [given, runs, shown]);
  const colors = useMemo(() => new Map(names.map((name, place) => [name, (place % COLORS) + 1])), [names]);
  const tabs = { list: t("title"), differences: t("differences"), law: t("law") };
  const view = useView();
  const choose = (runs: string | null) => {
    if (runs === "") return setQuery({ runs: "," }); // no run: an empty word of an address would be none
    setQuery({ runs: runs ?? "" });
  };
  return (
    <>
      <Curves names={names} colors={colors} runs={runs} onDrawn={setDrawn} />
      <Card>
        <div className="stack">
          <div className="row runs-tabs">
            <Tabs tabs={tabs} value={tab in tabs ? (tab as keyof typeof tabs) : "list"} onChange={setTab} label={t("view")} />
            <Exports names={names} />
          </div>
          {tab === "differences" ? <Differences names={names} /> : tab === "law" ? <ScalingLaw names={names} /> : rows === null ? <Loading /> : <RunTable runs={runs} shown={rows} colors={colors} setChosen={choose} />}
          {view.x === "flops" && <p className="muted small">{t("no_flops")}</p>}
        </div>
      </Card>
    </>
  );
}

function Curves({ names, colors, runs, onDrawn }: { names: string[]; colors: ReadonlyMap<string, number>; runs: Run[]; onDrawn: (drawn: boolean) => void }) {
  const t = useWords(WORDS);
  const view = useView();
  const stamp = useMemo(() => runs.reduce((sum, run) => sum + (colors.has(run.name) ? run.changed : 0), 0), [runs, colors]);
  const { byName, error, loading } = useCurves(names, view.metric, view, stamp);
  useEffect(() => {
    if (!loading) onDrawn(true);
  }, [loading, onDrawn]);
  const drawn = useMemo(() => names.flatMap((name) => (byName.has(name) ? [{ run: byName.get(name)!, color: colors.get(name)! }] : [])), [names, byName, colors]);
  const lines = useMemo(() => linesOf(drawn, view.metric, t("validation")), [drawn, view.metric, t]);
  const metrics = useMemo(() => [...new Set(drawn.flatMap(({ run }) => run.metrics.filter((one) => !["step", "tokens", "seconds"].includes(one))))], [drawn]);
  const x = t(view.x);
  return (
    <Card title={t("curves")}>
      <div className="stack">
        <Controls view={view} metrics={metrics.length ? metrics : ["loss"]} />
        {error && <Failed error={error} />}
        {names.length === 0 ? (
          <div className="plot-empty">
            <Empty icon="runs" title={t("nothing_chosen")} />
          </div>
        ) : lines.length === 0 ? (
          <div className="plot-empty" aria-busy={loading}>
            {loading ? null : <Empty icon="runs" title={t("no_points", { metric: view.metric, x })} />}
          </div>
        ) : (
          <Plot lines={lines} xLabel={x} title={t("chart", { metric: view.metric, count: drawn.length, x })} logX={view.logX} logY={view.logY} onZoom={zoomTo} />
        )}
        {names.length <= NAMED && (
          <ul className="row runs-legend">
            {names.map((name) => (
              <li key={name}>
                <span className={`swatch series-${colors.get(name)}`} />
                <Link to={`/runs/${encodeURIComponent(name)}`}>{name}</Link>
              </li>
            ))}
          </ul>
        )}
        <BrokenLines found={drawn.flatMap(({ run }) => run.broken.map((one) => ({ ...one, name: run.name })))} file="metrics.jsonl" />
      </div>
    </Card>
  );
}

export function BrokenLines({ found, file }: { found: (Broken & { name: string })[]; file: string }) {
  const t = useWords(WORDS);
  if (found.length === 0) return null;
  return (
    <Notice kind="warn">
      {found.slice(0, SHOWN_BROKEN).map(({ name, row, text }) => (
        <span key={`${name}:${row}`} className="runs-broken">
          {t("broken", { name, row, file, text })}
        </span>
      ))}
      {found.length > SHOWN_BROKEN && <span className="runs-broken">{t("more_broken", { count: found.length - SHOWN_BROKEN })}</span>}
    </Notice>
  );
}

/** The address of the overlay of a run with others. */
export function overlayOf(name: string): string {
  return `/runs?runs=${encodeURIComponent(joinNames([name]))}`;
}
