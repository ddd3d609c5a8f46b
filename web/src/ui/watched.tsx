// A training that is watched: what the server tells of it, how a page follows it, its numbers, curves and alerts.
import { useEffect, useMemo, useRef, useState } from "react";
import { get } from "../api";
import { bytes, clock, count, short } from "../format";
import { useWords } from "../preferences";
import type { Loaded } from "../use";
import { Chart } from "./chart";
import { Badge, Bar, Notice } from "./index";

export type Column = "step" | "tokens" | "loss" | "gradient_norm" | "learning_rate" | "seconds" | "tokens_per_second" | "memory_bytes";
export type State = "running" | "pausing" | "stopping" | "paused" | "stopped" | "finished" | "died" | "elsewhere";

export interface Alert {
  kind: "not finite" | "spike" | "stall" | "over-fit";
  step: number;
  value: number | null;
  limit: number | null;
}

export interface Watched {
  state: State;
  verb: string | null;
  command: string | null;
  started: number | null;
  step: number;
  steps: number | null;
  seconds: number;
  left_seconds: number | null;
  /** Names the file that was read; steps are only added to those of the same one. */
  file: string;
  whole: boolean;
  metrics: Record<Column, (number | null)[]>;
  validation: { step: number[]; loss: (number | null)[] };
  samples: { step: number; prompt: string; text: string }[];
  alerts: Alert[];
  checkpoint: string | null;
  log: string;
}

const WORDS = {
  running: ["Training", "训练中"],
  pausing: ["Pausing", "正在暂停"],
  stopping: ["Stopping", "正在停止"],
  paused: ["Paused", "已暂停"],
  stopped: ["Stopped", "已停止"],
  finished: ["Finished", "已完成"],
  died: ["Failed", "失败"],
  elsewhere: ["Not started here", "不是从这里启动的"],
  loss: ["Loss", "损失"],
  training: ["Training", "训练"],
  validation: ["Validation", "验证"],
  rate: ["Learning rate", "学习率"],
  norm: ["Gradient norm", "梯度范数"],
  speed: ["Tokens a second", "每秒词元数"],
  memory: ["Memory (GB)", "内存 (GB)"],
  memoryNow: ["Memory", "内存"],
  step: ["Step", "步数"],
  nats: ["nats a token", "纳特/词元"],
  ofSteps: ["{step} of {steps}", "{step} / {steps}"],
  elapsed: ["Time", "用时"],
  left: ["About left", "大约还剩"],
  tokens: ["Tokens", "词元"],
  progress: ["Progress", "进度"],
  "not finite": ["Step {step}: the loss is no number. The weights were not changed; the last checkpoint is intact. Lower the learning rate, or look at the data.", "第 {step} 步：损失不是有限数。权重没有改变，上一个检查点完好。请降低学习率，或检查数据。"],
  spike: ["Step {step}: the loss leapt to {value}; it had stayed below {limit}.", "第 {step} 步：损失跃升到 {value}，此前一直低于 {limit}。"],
  stall: ["No step since step {step}, for {value}: many times what a step takes.", "第 {step} 步之后已有 {value} 没有新的一步，远超平时一步的时间。"],
  "over-fit": ["Step {step}: the validation loss has risen three times in a row, to {value}, while the training loss fell: the run over-fits.", "第 {step} 步：验证损失连续三次上升到 {value}，而训练损失在下降：出现过拟合。"],
} as const;

const KINDS: Record<State, "" | "good" | "warn" | "bad" | "info" | "accent"> = { running: "accent", pausing: "warn", stopping: "warn", paused: "warn", stopped: "", finished: "good", died: "bad", elsewhere: "" };

export function isAlive(state: State): boolean {
  return state === "running" || state === "pausing" || state === "stopping";
}

export function StateBadge({ state }: { state: State }) {
  const t = useWords(WORDS);
  return <Badge kind={KINDS[state]}>{t(state)}</Badge>;
}

/** Add what was told now to what was told before; a run that was cut back, or another run, begins anew. */
export function joined(before: Watched | null, now: Watched): Watched {
  if (before === null || now.whole || before.file !== now.file) return now;
  const names = Object.keys(now.metrics) as Column[];
  if (now.metrics.step.length === 0) return { ...now, metrics: before.metrics };
  return { ...now, metrics: Object.fromEntries(names.map((name) => [name, [...before.metrics[name], ...now.metrics[name]]])) as Watched["metrics"] };
}

export function lastStep(watched: Watched | null): number {
  return watched?.metrics.step.at(-1) ?? 0;
}

/** Ask again and again, each time for what is new; `every` tells in how many seconds, null for not any more. */
export function useFollow<T>(key: string | null, path: (last: T | null) => string, join: (last: T | null, now: T) => T, every: (now: T) => number | null): Loaded<T> {
  const [state, setState] = useState<{ key: string | null; data: T | null; error: Error | null }>({ key, data: null, error: null });
  const [round, setRound] = useState(0);
  const tools = useRef({ path, join, every });
  tools.current = { path, join, every };
  useEffect(() => {
    if (key === null) return;
    const control = new AbortController();
    let timer: ReturnType<typeof setTimeout>;
    let last: T | null = null;
    const look = async () => {
      let wait: number | null = 5;
      try {
        last = tools.current.join(last, await get<T>(tools.current.path(last), control.signal));
        wait = tools.current.every(last);
        setState({ key, data: last, error: null });
      } catch (error) {
        if (control.signal.aborted) return;
        setState({ key, data: last, error: error as Error });
      }
      if (wait !== null && !control.signal.aborted) timer = setTimeout(() => void look(), wait * 1000);
    };
    void look();
    return () => {
      control.abort();
      clearTimeout(timer);
    };
  }, [key, round]);
  const reload = () => setRound((old) => old + 1);
  return state.key === key ? { data: state.data, error: state.error, reload } : { data: null, error: null, reload };
}

/** What a run is at now, in large figures. */
export function Figures({ of: run }: { of: Watched }) {
  const t = useWords(WORDS);
  const last = (name: Column) => run.metrics[name].at(-1) ?? null;
  const validation = run.validation.loss.at(-1);
  const speed = last("tokens_per_second");
  const memory = last("memory_bytes");
  const tokens = last("tokens");
  const figures: [string, string | null][] = [
    [t("step"), run.steps ? t("ofSteps", { step: count(run.step), steps: count(run.steps) }) : run.step ? count(run.step) : null],
    [t("loss"), last("loss")?.toFixed(3) ?? null],
    [t("validation"), validation?.toFixed(3) ?? null],
    [t("tokens"), tokens === null ? null : short(tokens)],
    [t("speed"), speed === null ? null : count(Math.round(speed))],
    [t("memoryNow"), memory === null ? null : bytes(memory)],
    [t("elapsed"), run.seconds ? clock(run.seconds) : null],
    [t("left"), run.left_seconds === null ? null : clock(run.left_seconds)],
  ];
  return (
    <div className="stack">
      {run.steps !== null && <Bar share={run.step / run.steps} label={t("progress")} />}
      <dl className="figures">
        {figures.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value ?? "–"}</dd>
          </div>
        ))}
      </dl>
    </div>
  );
}

export function Alerts({ alerts }: { alerts: Alert[] }) {
  const t = useWords(WORDS);
  return alerts.map((alert) => (
    <Notice key={`${alert.kind} ${alert.step}`} kind={alert.kind === "not finite" ? "bad" : "warn"}>
      {t(alert.kind, { step: count(alert.step), value: alert.value === null ? "" : alert.kind === "stall" ? clock(alert.value) : alert.value.toFixed(3), limit: alert.limit?.toFixed(3) ?? "" })}
    </Notice>
  ));
}

/** The held-out losses at the steps of the training losses; one between two steps that were sent stands at the later one. */
export function atSteps(steps: (number | null)[], validation: Watched["validation"]): (number | null)[] {
  const values: (number | null)[] = steps.map(() => null);
  let place = 0;
  validation.step.forEach((step, at) => {
    while (place < steps.length - 1 && (steps[place] ?? 0) < step) place += 1;
    if (steps.length) values[place] = validation.loss[at] ?? null;
  });
  return values;
}

export function LossChart({ of: run, height = 260 }: { of: Watched; height?: number }) {
  const t = useWords(WORDS);
  const x = useMemo(() => run.metrics.step.map((step) => step ?? 0), [run.metrics.step]);
  const lines = useMemo(() => {
    const found = [{ name: t("training"), values: run.metrics.loss, color: 2 }];
    return run.validation.step.length ? [...found, { name: t("validation"), values: atSteps(run.metrics.step, run.validation), color: 1 }] : found;
  }, [run.metrics, run.validation.step.length, t]);
  return <Chart title={t("loss")} x={x} lines={lines} xLabel={t("step")} yLabel={t("nats")} height={height} />;
}

export function SmallCharts({ of: run }: { of: Watched }) {
  const t = useWords(WORDS);
  const x = useMemo(() => run.metrics.step.map((step) => step ?? 0), [run.metrics.step]);
  const shown = useMemo(
    () =>
      (
        [
          ["learning_rate", t("rate"), 1],
          ["gradient_norm", t("norm"), 1],
          ["tokens_per_second", t("speed"), 1],
          ["memory_bytes", t("memory"), 1e-9],
        ] as const
      ).map(([name, title, scale]) => ({ title, lines: [{ name: title, values: run.metrics[name].map((value) => (value === null ? null : value * scale)), color: 2 }] })),
    [run.metrics, t],
  );
  return (
    <div className="small-charts">
      {shown.map(({ title, lines }) => (
        <figure key={title}>
          <figcaption>{title}</figcaption>
          <Chart title={title} x={x} lines={lines} xLabel={t("step")} height={150} />
        </figure>
      ))}
    </div>
  );
}
