// A training that runs, or that ran: its figures, curves, samples and log, and the buttons that steer it.
import { useEffect, useRef, useState } from "react";
import { ApiError, send } from "../../api";
import { count, date } from "../../format";
import { usePreferences, useWords } from "../../preferences";
import { Link } from "../../router";
import { Await, Button, Card, CopyButton, Dialog, Empty, Failed, Notice } from "../../ui";
import { useAction } from "../../use";
import { Alerts, Figures, isAlive, joined, lastStep, LossChart, SmallCharts, StateBadge, useFollow, type Watched } from "../../ui/watched";
import { verbOf } from "./labels";

const WORDS = {
  back: ["All trainings", "全部训练"],
  pause: ["Pause", "暂停"],
  resume: ["Resume", "继续"],
  stop: ["Stop", "停止"],
  chat: ["Talk to it", "和它对话"],
  run: ["Everything about this run", "这次训练的全部内容"],
  again: ["Train again with changes", "改动后再训练"],
  starting: ["Preparing: the text is tokenized, and the speed is measured. The first step follows.", "准备中：正在分词和测速，随后开始第一步。"],
  pausing: ["It finishes its step and saves.", "正在完成当前一步并保存。"],
  paused: ["Everything is saved. Resuming gives the same weights as if it had not been paused.", "一切都已保存。继续训练得到的权重与从未暂停时完全相同。"],
  stopped: ["It was stopped by hand; what it had learned is saved, and it can still be resumed.", "已手动停止；学到的内容已保存，仍可继续。"],
  died: ["It ended with an error. The end of its log:", "它因错误而结束。日志末尾："],
  loss: ["Loss", "损失"],
  samples: ["Samples", "采样"],
  step: ["Step {step}", "第 {step} 步"],
  log: ["Log", "日志"],
  command: ["Command", "命令"],
  copy: ["Copy the command", "复制命令"],
  empty: ["No step yet", "还没有一步"],
  since: ["started {date}", "开始于 {date}"],
  stopTitle: ["Stop this training?", "停止这次训练？"],
  stopText: ["It finishes its step and saves what it has learned. To go on later, pause it instead.", "它会完成当前一步并保存。若之后还要继续，请用暂停。"],
  cancel: ["Cancel", "取消"],
  anyway: ["Resume anyway", "仍然继续"],
  twoTitle: ["Another training runs", "另一个训练正在进行"],
  two: ["{run} is being trained. Two trainings share the cores: both take about twice as long.", "{run} 正在训练。两个训练共用处理器核心：各自大约要花两倍时间。"],
} as const;

export function LiveTraining({ run }: { run: string }) {
  const path = (last: Watched | null) => `/studio/train/watch?run=${encodeURIComponent(run)}&after=${lastStep(last)}&file=${last?.file ?? ""}`;
  const watched = useFollow<Watched>(run, path, joined, (now) => (isAlive(now.state) ? 1.5 : 10));
  return (
    <div className="page">
      <Await of={watched}>{(found) => <Shown run={run} of={found} reload={watched.reload} />}</Await>
    </div>
  );
}

function Shown({ run, of: found, reload }: { run: string; of: Watched; reload: () => void }) {
  const t = useWords(WORDS);
  const { language } = usePreferences();
  const steps = found.metrics.step.length;
  return (
    <>
      <div className="page-head">
        <div>
          <Link to="/train" className="small">
            ← {t("back")}
          </Link>
          <h1 className="run-name">{run}</h1>
          <p className="row">
            <span data-testid="state" data-state={found.state}>
              <StateBadge state={found.state} />
            </span>
            {found.verb && <span>{verbOf(found.verb, language)}</span>}
            {found.started && <span>{t("since", { date: date(found.started, language) })}</span>}
          </p>
        </div>
        <Steering run={run} of={found} reload={reload} />
      </div>
      {found.state === "died" && (
        <Notice kind="bad">
          {t("died")} <code>{lastWords(found.log)}</code>
        </Notice>
      )}
      {(found.state === "pausing" || found.state === "stopping") && <Notice kind="warn">{t("pausing")}</Notice>}
      {(found.state === "paused" || found.state === "stopped") && <Notice kind="warn">{t(found.state)}</Notice>}
      {found.state === "running" && steps === 0 && <Notice>{t("starting")}</Notice>}
      <Alerts alerts={found.alerts} />
      <Card>
        <Figures of={found} />
      </Card>
      <Card title={t("loss")} data-testid="curves">
        {steps ? <LossChart of={found} /> : <Empty icon="runs" title={t("empty")} />}
      </Card>
      {steps > 0 && (
        <Card>
          <SmallCharts of={found} />
        </Card>
      )}
      {found.samples.length > 0 && <Samples of={found} />}
      <Card title={t("log")}>
        <LogTail text={found.log} />
        {found.command && (
          <p className="row command">
            <code>{found.command}</code>
            <CopyButton text={found.command} label={t("copy")} />
          </p>
        )}
      </Card>
    </>
  );
}

/** The lines of an error at the end of a log. */
export function lastWords(log: string): string {
  const lines = log.trimEnd().split("\n");
  const start = lines.findLastIndex((line) => line.startsWith("error: "));
  return lines.slice(start === -1 ? -3 : start).join(" ");
}

/** The end of a log, which is what is looked at first. */
function LogTail({ text }: { text: string }) {
  const ref = useRef<HTMLPreElement>(null);
  useEffect(() => {
    ref.current!.scrollTop = ref.current!.scrollHeight;
  }, [text]);
  return (
    <pre ref={ref} className="code log" data-testid="log" tabIndex={0}>
      {text || "–"}
    </pre>
  );
}

function Samples({ of: found }: { of: Watched }) {
  const t = useWords(WORDS);
  return (
    <Card title={t("samples")}>
      <ul className="samples">
        {found.samples.toReversed().map((sample, place) => (
          <li key={place}>
            <span className="muted small number">{t("step", { step: count(sample.step) })}</span>
            <p>
              <strong>{sample.prompt}</strong>
              {sample.text}
            </p>
          </li>
        ))}
      </ul>
    </Card>
  );
}

function Steering({ run, of: found, reload }: { run: string; of: Watched; reload: () => void }) {
  const t = useWords(WORDS);
  const [stopping, setStopping] = useState(false);
  const [busyRun, setBusyRun] = useState<string | null>(null);
  const steer = useAction(async (what: "pause" | "stop" | "resume", alongside: boolean = false) => {
    try {
      await send("POST", `/studio/train/${what}`, { run, alongside });
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== "training_runs") throw error;
      setBusyRun(error.param ?? "");
    }
    reload();
  });
  const resumable = found.verb !== "quickstart" && ["paused", "stopped", "died"].includes(found.state);
  return (
    <div className="stack steering">
      <div className="row">
        {found.state === "running" && found.verb !== "quickstart" && (
          <Button icon="pause" disabled={steer.busy} onClick={() => void steer.run("pause")}>
            {t("pause")}
          </Button>
        )}
        {found.state === "running" && (
          <Button kind="danger" icon="stop" disabled={steer.busy} onClick={() => setStopping(true)}>
            {t("stop")}
          </Button>
        )}
        {resumable && (
          <Button kind="primary" icon="play" disabled={steer.busy} onClick={() => void steer.run("resume")}>
            {t("resume")}
          </Button>
        )}
        {!isAlive(found.state) && found.checkpoint && (
          <Link to={`/chat?model=${encodeURIComponent(run)}`} className={found.state === "finished" ? "button primary" : "button"}>
            {t("chat")}
          </Link>
        )}
        {found.steps !== null && (
          <Link to={`/runs/${encodeURIComponent(run)}`} className="button">
            {t("run")}
          </Link>
        )}
        {found.steps !== null && !isAlive(found.state) && (
          <Link to={`/train/new?from=${encodeURIComponent(`${run}/recipe.yaml`)}`} className="button quiet">
            {t("again")}
          </Link>
        )}
      </div>
      {steer.error && <Failed error={steer.error} />}
      {stopping && (
        <Dialog title={t("stopTitle")} onClose={() => setStopping(false)}>
          <p>{t("stopText")}</p>
          <div className="row">
            <Button kind="danger" onClick={() => (setStopping(false), void steer.run("stop"))}>
              {t("stop")}
            </Button>
            <Button onClick={() => setStopping(false)}>{t("cancel")}</Button>
          </div>
        </Dialog>
      )}
      {busyRun !== null && (
        <Dialog title={t("twoTitle")} onClose={() => setBusyRun(null)}>
          <p>{t("two", { run: busyRun })}</p>
          <div className="row">
            <Button kind="danger" onClick={() => (setBusyRun(null), void steer.run("resume", true))}>
              {t("anyway")}
            </Button>
            <Button onClick={() => setBusyRun(null)}>{t("cancel")}</Button>
          </div>
        </Dialog>
      )}
    </div>
  );
}
