// "Train your first model": one click, five stages to look at, and somebody to talk to at the end.
import { newId, send } from "../../api";
import { clock } from "../../format";
import { useWords } from "../../preferences";
import { Link } from "../../router";
import { Bar, Button, Card, Failed, Icon, Notice } from "../../ui";
import { useAction, type Loaded } from "../../use";
import { Alerts, Figures, joined, lastStep, LossChart, useFollow, type State, type Watched } from "../../ui/watched";
import { useRef } from "react";

const WORDS = {
  title: ["Train your first model", "训练你的第一个模型"],
  lead: ["From nothing to a small language model that answers you, in about {minutes} minutes, on this machine alone. You watch it learn.", "从零到一个会回答你的小语言模型，大约 {minutes} 分钟，全部在这台机器上完成。你可以看着它学习。"],
  start: ["Train your first model", "训练你的第一个模型"],
  offline: ["Nothing is downloaded, nothing leaves this machine.", "不下载任何东西，也没有任何东西离开这台机器。"],
  text: ["Text", "文本"],
  textHelp: ["A small town is made up: stories, and questions about them.", "编出一个小镇：故事，以及关于故事的问题。"],
  tokenizer: ["Tokenizer", "分词器"],
  tokenizerHelp: ["It learns which pieces text is made of.", "学习文本由哪些片段组成。"],
  pretraining: ["Pretraining", "预训练"],
  pretrainingHelp: ["The model reads, and learns to tell what comes next.", "模型阅读文本，学习预测下一个词元。"],
  instructions: ["Instructions", "指令"],
  instructionsHelp: ["It learns to answer questions.", "学习回答问题。"],
  evaluation: ["Evaluation", "评估"],
  evaluationHelp: ["It is examined on stories that it never saw.", "用从未见过的故事来考它。"],
  running: ["Your first model is being trained", "正在训练你的第一个模型"],
  stay: ["You may close this page; it goes on.", "可以关闭此页面，训练会继续。"],
  left: ["{elapsed} of about {all}", "{elapsed} / 约 {all}"],
  progress: ["Progress", "进度"],
  stop: ["Stop", "停止"],
  ready: ["Your first model is ready", "你的第一个模型已就绪"],
  right: ["It answered {share} of the questions about stories that it never saw exactly right, after {time} of training.", "经过 {time} 的训练，对从未见过的故事，它完全答对了 {share} 的问题。"],
  talk: ["Talk to it", "和它对话"],
  inside: ["Look inside", "看看内部"],
  ended: ["The training of your first model was stopped.", "第一个模型的训练已停止。"],
  died: ["The training of your first model ended with an error:", "第一个模型的训练因错误结束："],
  again: ["Start again", "重新开始"],
  question: ["Asked", "问"],
  answer: ["It answered", "它答"],
} as const;

type StageName = "text" | "tokenizer" | "pretraining" | "instructions" | "evaluation";

export interface First {
  run: string;
  state: State;
  started: number;
  seconds: number;
  minutes: number;
  stages: { name: StageName; ended: number | null; seconds: number | null }[];
  stage: StageName | null;
  training: Watched | null;
  model: string | null;
  result: { exact_match: number | null; seconds: number; chats: { question: string; answer: string }[] } | null;
  log: string;
}

interface Told {
  first: First | null;
}

const MINUTES = 8;

function join(last: Told | null, now: Told): Told {
  if (!now.first?.training) return now;
  const before = last?.first?.stage === now.first.stage ? (last?.first?.training ?? null) : null;
  return { first: { ...now.first, training: joined(before, now.first.training) } };
}

export function useFirst(): Loaded<Told> {
  const path = (last: Told | null) => `/studio/first?after=${lastStep(last?.first?.training ?? null)}&file=${last?.first?.training?.file ?? ""}`;
  return useFollow<Told>("first", path, join, (now) => (now.first === null || ["running", "stopping"].includes(now.first.state) ? 1.5 : 15));
}

/** The first model is offered where there is none, watched while it is trained, and offered to talk to until somebody talked. */
export function isShown(first: First | null, counts: Record<string, number>): boolean {
  if (first === null) return counts.models === 0;
  if (first.state === "running" || first.state === "stopping") return true;
  return first.state === "finished" ? counts.chats === 0 : counts.models === 0;
}

export function FirstModel({ first }: { first: Loaded<Told> }) {
  const id = useRef(newId());
  const start = useAction(async () => {
    await send("POST", "/studio/first", { id: id.current });
    id.current = newId();
    first.reload();
  });
  const stop = useAction(async () => {
    await send("POST", "/studio/first/stop");
    first.reload();
  });
  const found = first.data?.first ?? null;
  if (first.data === null) return null;
  if (found?.state === "finished") return <Ready of={found} />;
  if (found?.state === "running" || found?.state === "stopping") return <Progress of={found} onStop={() => void stop.run()} />;
  return <Hero ended={found} busy={start.busy} error={start.error} onStart={() => void start.run()} />;
}

function Hero({ ended, busy, error, onStart }: { ended: First | null; busy: boolean; error: Error | null; onStart: () => void }) {
  const t = useWords(WORDS);
  return (
    <section className="hero" aria-label={t("title")} data-testid="first-hero">
      <div className="stack">
        <h2>{t("title")}</h2>
        <p className="lead">{t("lead", { minutes: ended?.minutes ? Math.ceil(ended.minutes) + 1 : MINUTES })}</p>
        {ended && (
          <Notice kind={ended.state === "died" ? "bad" : "warn"}>
            {t(ended.state === "died" ? "died" : "ended")} {ended.state === "died" && <code>{ended.log.trim().split("\n").slice(-2).join(" ")}</code>}
          </Notice>
        )}
        <div className="row">
          <Button kind="primary" icon="play" className="large" disabled={busy} onClick={onStart} data-testid="first-start">
            {t(ended ? "again" : "start")}
          </Button>
          <span className="muted small">{t("offline")}</span>
        </div>
        {error && <Failed error={error} />}
      </div>
      <ol className="road">
        {(["text", "tokenizer", "pretraining", "instructions", "evaluation"] as const).map((name, place) => (
          <li key={name}>
            <span className="number">{place + 1}</span>
            <div>
              <strong>{t(name)}</strong>
              <p className="muted small">{t(`${name}Help`)}</p>
            </div>
          </li>
        ))}
      </ol>
    </section>
  );
}

function Progress({ of: found, onStop }: { of: First; onStop: () => void }) {
  const t = useWords(WORDS);
  return (
    <Card
      title={t("running")}
      data-testid="first-progress"
      actions={
        <Button small kind="danger" icon="stop" disabled={found.state === "stopping"} onClick={onStop}>
          {t("stop")}
        </Button>
      }
    >
      <div className="stack">
        <div className="row spread">
          <span className="muted">{t("stay")}</span>
          <span className="number">{t("left", { elapsed: clock(found.seconds), all: clock(60 * found.minutes) })}</span>
        </div>
        <Bar share={found.seconds / (60 * found.minutes)} label={t("progress")} />
        <div className="first-live">
          <ol className="road">
            {found.stages.map((stage) => (
              <li key={stage.name} data-state={stage.ended ? "done" : stage.name === found.stage ? "now" : "later"} aria-current={stage.name === found.stage ? "step" : undefined}>
                <span className="number">{stage.ended ? <Icon name="check" size={14} /> : stage.name === found.stage ? <span className="spinner small" /> : ""}</span>
                <div>
                  <strong>{t(stage.name)}</strong> {stage.seconds !== null && <span className="muted small number">{clock(stage.seconds)}</span>}
                  <p className="muted small">{t(`${stage.name}Help`)}</p>
                </div>
              </li>
            ))}
          </ol>
          {found.training && (
            <div className="stack">
              <Alerts alerts={found.training.alerts} />
              <Figures of={found.training} />
              {found.training.metrics.step.length > 0 && <LossChart of={found.training} height={220} />}
            </div>
          )}
        </div>
      </div>
    </Card>
  );
}

function Ready({ of: found }: { of: First }) {
  const t = useWords(WORDS);
  const model = encodeURIComponent(found.model ?? found.run);
  const chat = found.result?.chats.at(0);
  return (
    <section className="hero ready" data-testid="first-ready" aria-label={t("ready")}>
      <div className="stack">
        <h2>{t("ready")}</h2>
        {found.result?.exact_match != null && (
          <p className="lead">{t("right", { share: `${Math.round(100 * found.result.exact_match)} %`, time: clock(found.result.seconds) })}</p>
        )}
        <div className="row">
          <Link to={`/chat?model=${model}`} className="button primary large">
            {t("talk")}
          </Link>
          <Link to={`/model?model=${model}`} className="button">
            {t("inside")}
          </Link>
        </div>
      </div>
      {chat && (
        <dl className="taste">
          <dt>{t("question")}</dt>
          <dd>{chat.question}</dd>
          <dt>{t("answer")}</dt>
          <dd>
            <strong>{chat.answer}</strong>
          </dd>
        </dl>
      )}
    </section>
  );
}
