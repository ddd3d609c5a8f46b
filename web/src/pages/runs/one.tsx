// One run whole: its figures, all its curves, its recipe, its report, what it wrote and what happened.
import { lazy, Suspense, useMemo } from "react";
import { bytes, clock, date, short } from "../../format";
import { usePreferences, useWords } from "../../preferences";
import { Link } from "../../router";
import { Await, Badge, Bar, Card, CopyButton, Empty, Failed, Icon, Loading, Tabs } from "../../ui";
import { useGet, useQuery } from "../../use";
import { Controls, linesOf, useCurves, useView, zoomTo } from "./controls";
import { value, type WholeRun } from "./data";
import { Exports } from "./exports";
import { Plot } from "./plot";
import { BrokenLines, overlayOf } from "./runs";
import { WORDS } from "./words";

const LOOK_SECONDS = 10;
const Report = lazy(() => import("./report")); // with all that Markdown needs

export function OneRun({ name }: { name: string }) {
  const t = useWords(WORDS);
  const found = useGet<WholeRun>(`/studio/runs/run?name=${encodeURIComponent(name)}`, LOOK_SECONDS);
  const [tab, setTab] = useQuery("tab", "curves");
  const tabs = { curves: t("curves"), report: t("report"), recipe: t("recipe"), samples: t("samples"), checkpoints: t("checkpoints"), events: t("events") };
  const shown = tab in tabs ? (tab as keyof typeof tabs) : "curves";
  return (
    <div className="page">
      <div className="page-head">
        <div>
          <Link to="/runs" className="runs-back small">
            <Icon name="left" size={14} /> {t("back")}
          </Link>
          <h1 className="runs-title">{name}</h1>
        </div>
        <div className="row">
          <Link to={overlayOf(name)} className="button small">
            {t("compare")}
          </Link>
          <Exports names={[name]} />
        </div>
      </div>
      <Await of={found}>
        {(run) => (
          <>
            <Figures run={run} />
            <Tabs tabs={tabs} value={shown} onChange={setTab} label={t("view")} />
            {shown === "curves" && <AllCurves run={run} />}
            {shown === "report" && <ReportCard run={run} />}
            {shown === "recipe" && (
              <Card title="recipe.yaml" actions={<CopyButton text={run.recipe} label={t("copy")} />}>
                <pre className="code" tabIndex={0} data-testid="recipe">
                  {run.recipe}
                </pre>
              </Card>
            )}
            {shown === "samples" && <Samples run={run} />}
            {shown === "checkpoints" && <Checkpoints run={run} />}
            {shown === "events" && <Events run={run} />}
          </>
        )}
      </Await>
    </div>
  );
}

function Figures({ run }: { run: WholeRun }) {
  const t = useWords(WORDS);
  const { language } = usePreferences();
  const figures: [string, string][] = [
    [t("train_loss"), value(run.train_loss)],
    [t("validation_loss"), value(run.validation_loss)],
    [t("tokens"), run.tokens === null ? "–" : short(run.tokens)],
    [t("tokens_per_second"), run.tokens_per_second === null ? "–" : value(Math.round(run.tokens_per_second))],
    [t("parameters"), run.parameters === null ? "–" : short(run.parameters)],
    [t("time"), run.seconds === null ? "–" : clock(run.seconds)],
  ];
  const done = run.steps !== null && run.step >= run.steps;
  return (
    <Card>
      <div className="stack">
        <div className="row">
          {run.stage && <Badge kind="info">{run.stage}</Badge>}
          {done && <Badge kind="good">{t("ended")}</Badge>}
          <span className="number">
            {t("step")} {run.steps === null ? value(run.step) : t("of_steps", { step: value(run.step), steps: value(run.steps) })}
          </span>
          <span className="muted small">
            {t("changed")} {date(run.changed, language)}
          </span>
        </div>
        {run.steps !== null && !done && <Bar share={run.step / run.steps} label={t("step")} />}
        <dl className="runs-figures">
          {figures.map(([name, text]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{text}</dd>
            </div>
          ))}
        </dl>
      </div>
    </Card>
  );
}

function AllCurves({ run }: { run: WholeRun }) {
  const t = useWords(WORDS);
  const view = useView();
  const names = useMemo(() => [run.name], [run.name]);
  const { byName, error, loading } = useCurves(names, "*", view, run.changed);
  const drawn = byName.get(run.name);
  const charts = useMemo(() => (drawn?.curves ?? []).map((curve, place) => ({ metric: curve.metric, lines: linesOf([{ run: drawn!, color: (place % 8) + 1 }], curve.metric, t("validation")) })), [drawn, t]);
  const x = t(view.x);
  return (
    <div className="stack">
      <Card>
        <Controls view={view} />
        {view.x === "flops" && run.flops_a_token === null && <p className="muted small">{t("no_flops")}</p>}
      </Card>
      {error && <Failed error={error} />}
      {drawn && <BrokenLines found={drawn.broken.map((one) => ({ ...one, name: run.name }))} file="metrics.jsonl" />}
      {!loading && charts.length === 0 && <Empty icon="runs" title={t("no_curves")} />}
      <div className="runs-charts">
        {charts.map(({ metric, lines }) => (
          <Card key={metric} title={metric}>
            {lines.length ? (
              <Plot lines={lines} height={metric === "loss" ? 320 : 220} xLabel={x} title={t("chart", { metric, count: 1, x })} logX={view.logX} logY={view.logY} onZoom={zoomTo} />
            ) : (
              <Empty icon="runs" title={t("no_points", { metric, x })} />
            )}
          </Card>
        ))}
      </div>
    </div>
  );
}

function ReportCard({ run }: { run: WholeRun }) {
  const t = useWords(WORDS);
  return (
    <Card>
      {run.report === null ? (
        <Empty icon="runs" title={t("no_report")}>
          <p>{t("no_report_help")}</p>
        </Empty>
      ) : (
        <Suspense fallback={<Loading />}>
          <Report run={run.name} text={run.report} />
        </Suspense>
      )}
    </Card>
  );
}

function Samples({ run }: { run: WholeRun }) {
  const t = useWords(WORDS);
  return (
    <Card>
      {run.samples.length === 0 ? (
        <Empty icon="tokens" title={t("no_samples")}>
          <p>{t("no_samples_help")}</p>
        </Empty>
      ) : (
        <ul className="stack">
          {[...run.samples].reverse().map((sample, place) => (
            <li key={place} className="runs-sample" data-testid="sample">
              <p className="muted small">{t("after", { step: value(sample.step), prompt: sample.prompt })}</p>
              <p>{sample.text}</p>
            </li>
          ))}
        </ul>
      )}
    </Card>
  );
}

function Checkpoints({ run }: { run: WholeRun }) {
  const t = useWords(WORDS);
  return (
    <Card>
      {run.checkpoints.length === 0 ? (
        <Empty icon="models" title={t("no_checkpoints")} />
      ) : (
        <div className="scroll">
          <table>
            <thead>
              <tr>
                <th>{t("checkpoint")}</th>
                <th />
                <th className="number">{t("size")}</th>
              </tr>
            </thead>
            <tbody>
              {run.checkpoints.map((one) => (
                <tr key={one.name}>
                  <td className="mono">{one.name}</td>
                  <td>
                    <span className="row">
                      {one.latest && <Badge kind="info">{t("latest")}</Badge>}
                      {one.best && <Badge kind="good">{t("best")}</Badge>}
                    </span>
                  </td>
                  <td className="number">{bytes(one.bytes)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Card>
  );
}

function Events({ run }: { run: WholeRun }) {
  const t = useWords(WORDS);
  const { language } = usePreferences();
  return (
    <Card>
      <BrokenLines found={run.broken_events.map((one) => ({ ...one, name: run.name }))} file="events.jsonl" />
      {run.events.length === 0 ? (
        <Empty icon="runs" title={t("no_events")} />
      ) : (
        <div className="scroll" tabIndex={0} role="region" aria-label={t("events")}>
          <table>
            <thead>
              <tr>
                <th>{t("time")}</th>
                <th>{t("event")}</th>
                <th>{t("values")}</th>
              </tr>
            </thead>
            <tbody>
              {[...run.events].reverse().map(({ event, time, ...values }, place) => (
                <tr key={place}>
                  <td className="runs-when">{time === undefined ? "–" : date(time, language)}</td>
                  <td>{event}</td>
                  <td className="number runs-values">{Object.entries(values).map(([key, one]) => `${key} ${typeof one === "number" ? value(one) : typeof one === "string" ? one : JSON.stringify(one)}`).join(" · ")}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Card>
  );
}
