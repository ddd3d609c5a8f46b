// What a chart of runs shows and how: metric, axis, smoothing, logarithms and the part that was zoomed into, all in the address.
import { useEffect, useMemo, useState } from "react";
import { get } from "../../api";
import { useWords } from "../../preferences";
import { Button, Field, Slider } from "../../ui";
import { useQuery } from "../../use";
import { navigate } from "../../router";
import { AXES, curveAddresses, type Axis, type Drawn } from "./data";
import type { PlotLine, Span } from "./plot";
import { WORDS } from "./words";

const MOST_SMOOTHING = 0.99;
const BETWEEN_PAINTS = 400; // milliseconds
const REQUESTS = 2; // at a time: as many as a small machine has processors

export interface View {
  metric: string;
  x: Axis;
  smooth: number;
  logX: boolean;
  logY: boolean;
  span: Span | null;
}

export function useView(): View {
  const [metric] = useQuery("metric", "loss");
  const [x] = useQuery("x", "step");
  const [smooth] = useQuery("smooth", "0");
  const [log] = useQuery("log");
  const [from] = useQuery("from");
  const [to] = useQuery("to");
  return useMemo(() => {
    const given = Number(smooth);
    const span = from !== "" && to !== "" && Number(from) < Number(to) ? { from: Number(from), to: Number(to) } : null;
    return { metric, x: AXES.includes(x as Axis) ? (x as Axis) : "step", smooth: given > 0 && given < 1 ? given : 0, logX: log.includes("x"), logY: log.includes("y"), span };
  }, [metric, x, smooth, log, from, to]);
}

/** Set several words of the address at once; "" takes one out. */
export function setQuery(words: Record<string, string>): void {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(words)) value ? query.set(name, value) : query.delete(name);
  navigate(location.pathname + (query.size ? `?${query}` : ""), { replace: true });
}

export function Controls({ view, metrics }: { view: View; metrics?: string[] }) {
  const t = useWords(WORDS);
  const [smooth, setSmooth] = useState(view.smooth);
  useEffect(() => setSmooth(view.smooth), [view.smooth]);
  useEffect(() => {
    if (smooth === view.smooth) return;
    const timer = setTimeout(() => setQuery({ smooth: smooth ? String(smooth) : "" }), 150); // a slider says much on its way
    return () => clearTimeout(timer);
  }, [smooth, view.smooth]);
  const log = (logX: boolean, logY: boolean) => setQuery({ log: (logX ? "x" : "") + (logY ? "y" : "") });
  return (
    <div className="row runs-controls">
      {metrics && (
        <Field label={t("metric")}>
          {(id) => (
            <select id={id} className="input" value={view.metric} onChange={(event) => setQuery({ metric: event.target.value === "loss" ? "" : event.target.value })}>
              {[...new Set([...metrics, view.metric])].map((one) => (
                <option key={one}>{one}</option>
              ))}
            </select>
          )}
        </Field>
      )}
      <Field label={t("x")}>
        {(id) => (
          <select id={id} className="input" value={view.x} onChange={(event) => setQuery({ x: event.target.value === "step" ? "" : event.target.value, from: "", to: "" })}>
            {AXES.map((axis) => (
              <option key={axis} value={axis}>
                {t(axis)}
              </option>
            ))}
          </select>
        )}
      </Field>
      <Slider label={t("smoothing")} value={smooth} min={0} max={MOST_SMOOTHING} step={0.01} shown={smooth.toFixed(2)} onChange={setSmooth} />
      <div className="row runs-toggles">
        <Button small aria-pressed={view.logY} onClick={() => log(view.logX, !view.logY)}>
          {t("log_y")}
        </Button>
        <Button small aria-pressed={view.logX} onClick={() => log(!view.logX, view.logY)}>
          {t("log_x")}
        </Button>
        {view.span && (
          <Button small kind="quiet" icon="close" onClick={() => setQuery({ from: "", to: "" })}>
            {t("whole")}
          </Button>
        )}
      </div>
    </div>
  );
}

export function zoomTo(span: Span): void {
  setQuery({ from: String(Number(span.from.toPrecision(6))), to: String(Number(span.to.toPrecision(6))) });
}

interface Loaded {
  kind: string;
  byName: ReadonlyMap<string, Drawn>;
  error: Error | null;
  loading: boolean;
}

/** The curves of some runs, asked in parts and shown as they come; what is there stays while it is asked again. */
export function useCurves(names: readonly string[], metrics: string, view: View, stamp: number): Loaded {
  const kind = `${metrics} ${view.x}`;
  const [state, setState] = useState<Loaded>({ kind, byName: new Map(), error: null, loading: true });
  const addresses = curveAddresses(names, { metrics, x: view.x, smooth: view.smooth || "", from: view.span?.from ?? "", to: view.span?.to ?? "" });
  const asked = addresses.join(" ");
  useEffect(() => {
    const control = new AbortController();
    const waiting = asked ? asked.split(" ") : [];
    setState((old) => ({ kind, byName: old.kind === kind ? old.byName : new Map(), error: null, loading: waiting.length > 0 }));
    const come: Drawn[] = [];
    let painted = 0;
    const paint = () => {
      const runs = come.splice(0);
      painted = performance.now();
      setState((old) => ({ ...old, byName: new Map([...old.byName, ...runs.map((run) => [run.name, run] as const)]) }));
    };
    const worker = async () => {
      for (let path = waiting.shift(); path; path = waiting.shift()) {
        come.push(...(await get<{ runs: Drawn[] }>(path, control.signal)).runs);
        if (performance.now() - painted > BETWEEN_PAINTS) paint(); // each draws all curves anew
      }
    };
    Promise.all(Array.from({ length: REQUESTS }, worker)).then(
      () => {
        if (control.signal.aborted) return;
        paint();
        setState((old) => ({ ...old, loading: false }));
      },
      (error: Error) => {
        if (control.signal.aborted) return;
        paint();
        setState((old) => ({ ...old, error, loading: false }));
      },
    );
    return () => control.abort();
  }, [asked, kind, stamp]);
  return state.kind === kind ? state : { kind, byName: new Map(), error: null, loading: true };
}

/** The lines of a chart: each curve, faint below its running average where there is one, and its validations as dots. */
export function linesOf(runs: readonly { run: Drawn; color: number }[], metric: string, validation: string): PlotLine[] {
  return runs.flatMap(({ run, color }) => {
    const curve = run.curves.find((one) => one.metric === metric);
    if (!curve?.x.length) return [];
    const found: PlotLine[] = [{ name: run.name, points: curve, color, kind: curve.smooth ? "faint" : "line" }];
    if (curve.smooth) found.push({ name: run.name, points: curve.smooth, color, kind: "line" });
    const [first, last] = [curve.x[0]!, curve.x.at(-1)!];
    const inside = run.validations.x.map((x) => x >= first && x <= last);
    const kept = (values: number[]) => values.filter((_, place) => inside[place]);
    if (metric === "loss" && inside.some(Boolean)) found.push({ name: `${run.name} · ${validation}`, points: { x: kept(run.validations.x), y: kept(run.validations.y) }, color, kind: "dots" });
    return found;
  });
}
