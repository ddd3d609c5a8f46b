// One round: the answers side by side while they are written, the vote, and then the names.
import { useEffect, useState } from "react";
import { ApiError, events, send } from "../../api";
import { useWords } from "../../preferences";
import { Link } from "../../router";
import { Await, Badge, Button, Card, Failed, Field, Loading, Notice } from "../../ui";
import { Markdown } from "../../ui/markdown";
import { useAction, useGet } from "../../use";
import { complete, heard, stored, type Answers, type Round, type Said, type Winner, type Written } from "./rounds";

const WORDS = {
  prompt: ["Prompt", "提示"],
  answer: ["Answer {letter}", "回答 {letter}"],
  cut: ["cut off at the longest length", "达到最大长度而截断"],
  empty: ["It said nothing.", "没有任何回答。"],
  which: ["Which answer is best?", "哪个回答最好？"],
  waiting: ["You can vote when all have answered.", "全部回答完后即可投票。"],
  reason: ["Why? (optional)", "为什么？（可选）"],
  best: ["{letter} is best", "{letter} 最好"],
  tie: ["Tie", "平局"],
  bothBad: ["Both bad", "都不好"],
  allBad: ["All bad", "全都不好"],
  chosen: ["your choice", "你的选择"],
  kept: ["Your vote is kept: {vote}.", "投票已保存：{vote}。"],
  why: ["Your reason", "你的理由"],
  next: ["Next round", "下一轮"],
  leaderboard: ["See the leaderboard", "查看排行榜"],
  asked: ["All were asked with temperature {temperature}, at most {tokens} tokens, seed {seed}.", "提问条件相同：温度 {temperature}，最多 {tokens} 个词元，种子 {seed}。"],
} as const;

export function RoundView({ id }: { id: string }) {
  const asked = useGet<Round>(`/studio/arena/rounds/${encodeURIComponent(id)}`);
  return <Await of={asked}>{(round) => <Judged round={round} reload={asked.reload} />}</Await>;
}

/** The answers of a round, those that are not written yet as they are written. */
function useAnswers(round: Round) {
  const [answers, setAnswers] = useState<Answers>(() => stored(round));
  const [error, setError] = useState<Error | null>(null);
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    if (complete(round, stored(round))) {
      setAnswers(stored(round));
      return;
    }
    const control = new AbortController();
    const follow = async () => {
      let now: Answers = {};
      for await (const said of events<Said>(`/studio/arena/rounds/${round.id}/answers`, {}, control.signal)) {
        now = heard(now, said);
        setAnswers(now);
      }
    };
    setError(null);
    follow().catch((caught: Error) => control.signal.aborted || setError(caught));
    return () => control.abort();
  }, [round, attempt]);
  return { answers, error, retry: () => setAttempt((old) => old + 1) };
}

function Judged({ round: loaded, reload }: { round: Round; reload: () => void }) {
  const t = useWords(WORDS);
  const [voted, setVoted] = useState<Round | null>(null);
  const round = voted ?? loaded;
  const { answers, error, retry } = useAnswers(loaded);
  const vote = useAction(async (winner: Winner, reason: string) => {
    try {
      setVoted(await send<Round>("POST", `/studio/arena/rounds/${round.id}/vote`, { winner, reason }));
    } catch (caught) {
      if (caught instanceof ApiError && caught.code === "conflict") reload();
      throw caught;
    }
  });
  return (
    <div className="stack" data-testid="round">
      <Card className="arena-prompt">
        <h2 className="muted small">{t("prompt")}</h2>
        <p>{round.prompt}</p>
      </Card>
      <div className="arena-answers" data-sides={round.sides.length}>
        {round.sides.map((side) => (
          <Answer key={side.side} letter={side.side.toUpperCase()} written={answers[side.side]} model={side.model} chosen={round.vote?.winner === side.side} stopped={error !== null} />
        ))}
      </div>
      {error && !round.vote && <Failed error={error} retry={retry} />}
      {vote.error && <Failed error={vote.error} />}
      {round.vote ? <Result round={round} vote={round.vote} /> : <Ballot round={round} ready={complete(round, answers)} busy={vote.busy} onVote={(winner, reason) => void vote.run(winner, reason)} />}
    </div>
  );
}

function Answer({ letter, written, model, chosen, stopped }: { letter: string; written: Written | undefined; model: string | undefined; chosen: boolean; stopped: boolean }) {
  const t = useWords(WORDS);
  return (
    <section className="card arena-answer" aria-label={t("answer", { letter })} data-testid={`answer-${letter}`} data-chosen={chosen}>
      <header>
        <h2>
          <span className="arena-letter">{letter}</span>
          {model && <span className="arena-model">{model}</span>}
        </h2>
        {chosen && <Badge kind="accent">{t("chosen")}</Badge>}
      </header>
      <div aria-busy={!written?.finish}>
        {written?.text.trim() ? <Markdown text={written.text} /> : written?.finish ? <p className="muted">{t("empty")}</p> : !stopped && <Loading />}
      </div>
      {written?.finish === "length" && <p className="muted small">{t("cut")}</p>}
    </section>
  );
}

function Ballot({ round, ready, busy, onVote }: { round: Round; ready: boolean; busy: boolean; onVote: (winner: Winner, reason: string) => void }) {
  const t = useWords(WORDS);
  const [reason, setReason] = useState("");
  const off = !ready || busy;
  return (
    <Card title={t("which")} data-testid="ballot">
      <div className="stack">
        <Field label={t("reason")}>{(id) => <textarea id={id} className="input" rows={2} maxLength={4000} value={reason} onChange={(event) => setReason(event.target.value)} />}</Field>
        <div className="row">
          {round.sides.map((side) => (
            <Button key={side.side} kind="primary" disabled={off} onClick={() => onVote(side.side, reason)}>
              {t("best", { letter: side.side.toUpperCase() })}
            </Button>
          ))}
          <Button disabled={off} onClick={() => onVote("tie", reason)}>
            {t("tie")}
          </Button>
          <Button disabled={off} onClick={() => onVote("both_bad", reason)}>
            {t(round.sides.length === 2 ? "bothBad" : "allBad")}
          </Button>
          {!ready && <span className="muted small">{t("waiting")}</span>}
        </div>
      </div>
    </Card>
  );
}

function Result({ round, vote }: { round: Round; vote: NonNullable<Round["vote"]> }) {
  const t = useWords(WORDS);
  const said = vote.winner === "tie" ? t("tie") : vote.winner === "both_bad" ? t(round.sides.length === 2 ? "bothBad" : "allBad") : t("best", { letter: vote.winner.toUpperCase() });
  const { temperature, max_tokens, seed } = round.sampling;
  return (
    <Card data-testid="result">
      <div className="stack">
        <Notice kind="good">{t("kept", { vote: said })}</Notice>
        {vote.reason && (
          <div>
            <h3 className="muted small">{t("why")}</h3>
            <p className="arena-text">{vote.reason}</p>
          </div>
        )}
        {seed !== undefined && <p className="muted small">{t("asked", { temperature: temperature ?? "–", tokens: max_tokens ?? "–", seed })}</p>}
        <div className="row">
          <Link to="/arena" className="button primary">
            {t("next")}
          </Link>
          <Link to="/arena/leaderboard" className="button">
            {t("leaderboard")}
          </Link>
        </div>
      </div>
    </Card>
  );
}
