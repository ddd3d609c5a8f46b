// What the votes come to: scores with their intervals, who beats whom, whether a side is favoured, and pairs to learn from.
import { count } from "../../format";
import { useWords } from "../../preferences";
import { Link } from "../../router";
import { Await, Card, Empty, Icon, Notice } from "../../ui";
import { useGet } from "../../use";
import { percent, scale, type Board, type Standing } from "./rounds";

const ENOUGH_VOTES = 20;
const WORDS = {
  scores: ["Scores", "得分"],
  none: ["No vote yet", "还没有投票"],
  begin: ["Start a round", "开始一轮"],
  votes: ["Votes: {votes}. Decided: {decided}, ties: {ties}, all answers bad (left out): {bad}.", "共 {votes} 票：{decided} 票分出胜负，{ties} 票平局，{bad} 票全都不好（不计入）。"],
  few: ["Intervals draw these votes anew; of fewer than {least} they are too narrow. Judge some more rounds.", "区间由这些投票重新抽样得到；少于 {least} 票时区间过窄。请再评判几轮。"],
  model: ["Model", "模型"],
  score: ["Score", "得分"],
  interval: ["95 % interval", "95% 区间"],
  rounds: ["Rounds", "轮数"],
  ends: ["Won · tie · lost", "胜 · 平 · 负"],
  how: [
    "Bradley-Terry scores: 400 more is ten times as likely to win. A tie is half a win each. So that a model that never lost has a score too, each is given one imagined draw.",
    "Bradley-Terry 得分：高 400 分表示获胜的可能性是十倍。平局各算半胜。为使从未输过的模型也有得分，每个模型加一场虚拟平局。",
  ],
  matrix: ["Who beats whom", "两两胜负"],
  matrixHelp: ["Wins of the row over the column, of all their meetings.", "行模型战胜列模型的次数，占两者全部对局。"],
  side: ["Is a side favoured?", "是否偏向某一方？"],
  fair: ["No: side A won {share} % of {total} decided rounds, and chance, {chance} %, lies within {low} to {high} %.", "没有：在 {total} 轮分出胜负的对局中 A 方赢了 {share}%，随机水平 {chance}% 在 {low}% 到 {high}% 之内。"],
  first: ["Votes lean to side A: it won {share} % of {total} decided rounds ({low} to {high} %), where chance gives {chance} %.", "投票偏向 A 方：在 {total} 轮中赢了 {share}%（{low}% 到 {high}%），随机水平为 {chance}%。"],
  other: ["Votes lean away from side A: it won {share} % of {total} decided rounds ({low} to {high} %), where chance gives {chance} %.", "投票偏离 A 方：在 {total} 轮中只赢了 {share}%（{low}% 到 {high}%），随机水平为 {chance}%。"],
  unknown: ["No round has been decided yet.", "还没有分出胜负的对局。"],
  pairs: ["Learn from the votes", "从投票中学习"],
  pairsLead: ["Pairs of a better and a worse answer: {pairs}. From rounds: {rounds}, from thumbs up and down in chats: {chats}.", "{pairs} 对较好与较差的回答：{rounds} 对来自对局，{chats} 对来自对话中的赞与踩。"],
  left: ["Left out: {ties} ties, {bad} rounds where all were bad, {same} pairs with an empty answer or twice the same.", "未计入：{ties} 次平局，{bad} 轮全都不好，{same} 对回答为空或相同。"],
  download: ["Download preferences.jsonl", "下载 preferences.jsonl"],
} as const;

export function Leaderboard() {
  const t = useWords(WORDS);
  const board = useGet<Board>("/studio/arena/leaderboard");
  return (
    <Await of={board}>
      {(found) => (
        <div className="stack" data-testid="leaderboard">
          {found.standings.length === 0 ? (
            <Card>
              <Empty icon="arena" title={t("none")}>
                {found.counts.votes > 0 && <Counts board={found} />}
                <Link to="/arena" className="button primary">
                  {t("begin")}
                </Link>
              </Empty>
            </Card>
          ) : (
            <>
              <Scores board={found} />
              <div className="grid">
                <Matrix board={found} />
                <Side side={found.side} />
              </div>
            </>
          )}
          <Pairs pairs={found.pairs} />
        </div>
      )}
    </Await>
  );
}

function Counts({ board }: { board: Board }) {
  const t = useWords(WORDS);
  const { votes, decided, ties, both_bad } = board.counts;
  return (
    <>
      <p className="muted">{t("votes", { votes: count(votes), decided: count(decided), ties: count(ties), bad: count(both_bad) })}</p>
      {decided + ties < ENOUGH_VOTES && <Notice kind="warn">{t("few", { least: ENOUGH_VOTES })}</Notice>}
    </>
  );
}

function Scores({ board }: { board: Board }) {
  const t = useWords(WORDS);
  const [low, high] = scale(board.standings);
  return (
    <Card title={t("scores")}>
      <div className="stack">
        <Counts board={board} />
        <div className="scroll" tabIndex={0} role="region" aria-label={t("scores")}>
          <table className="arena-scores">
            <thead>
              <tr>
                <th className="number">#</th>
                <th>{t("model")}</th>
                <th className="number">{t("score")}</th>
                <th>{t("interval")}</th>
                <th className="number">{t("rounds")}</th>
                <th className="number">{t("ends")}</th>
              </tr>
            </thead>
            <tbody>
              {board.standings.map((one, place) => (
                <tr key={one.name}>
                  <td className="number muted">{place + 1}</td>
                  <td className="arena-name">{one.name}</td>
                  <td className="number arena-score">{Math.round(one.score)}</td>
                  <td>
                    <Interval one={one} low={low} high={high} />
                  </td>
                  <td className="number">{count(one.rounds)}</td>
                  <td className="number">
                    {one.wins} · {one.ties} · {one.losses}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
        <p className="muted small">{t("how")}</p>
      </div>
    </Card>
  );
}

function Interval({ one, low, high }: { one: Standing; low: number; high: number }) {
  const left = percent(one.low, low, high);
  return (
    <div className="arena-interval">
      <span className="arena-track" aria-hidden="true">
        <span className="arena-range" style={{ left: `${left}%`, width: `${percent(one.high, low, high) - left}%` }} />
        <span className="arena-point" style={{ left: `${percent(one.score, low, high)}%` }} />
      </span>
      <span className="muted small number">
        {Math.round(one.low)} – {Math.round(one.high)}
      </span>
    </div>
  );
}

function Matrix({ board }: { board: Board }) {
  const t = useWords(WORDS);
  return (
    <Card title={t("matrix")}>
      <div className="stack">
        <p className="muted small">{t("matrixHelp")}</p>
        <div className="scroll" tabIndex={0} role="region" aria-label={t("matrix")}>
          <table className="arena-matrix">
            <thead>
              <tr>
                <th>{t("model")}</th>
                {board.standings.map((one, place) => (
                  <th key={one.name} className="number" title={one.name}>
                    {place + 1}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {board.standings.map((one, row) => (
                <tr key={one.name}>
                  <th scope="row">
                    {row + 1} {one.name}
                  </th>
                  {board.standings.map((other, column) => (
                    <Cell key={other.name} wins={board.wins[row]![column]!} losses={board.wins[column]![row]!} own={row === column} />
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </div>
    </Card>
  );
}

function Cell({ wins, losses, own }: { wins: number; losses: number; own: boolean }) {
  const games = wins + losses;
  if (own || games === 0) return <td className="number muted">–</td>;
  const strength = Math.round((30 * wins) / games);
  return (
    <td className="number" style={{ background: `color-mix(in srgb, var(--accent) ${strength}%, transparent)` }}>
      {wins} / {games}
    </td>
  );
}

function Side({ side }: { side: Board["side"] }) {
  const t = useWords(WORDS);
  const shown = (share: number) => Math.round(100 * share);
  const values = { share: shown(side.share), low: shown(side.low), high: shown(side.high), chance: shown(side.chance), total: count(side.total) };
  return (
    <Card title={t("side")} data-testid="side-bias">
      {side.total === 0 ? (
        <p className="muted">{t("unknown")}</p>
      ) : (
        <div className="stack">
          <div className="arena-share" aria-hidden="true">
            <span className="arena-range" style={{ left: `${100 * side.low}%`, width: `${100 * (side.high - side.low)}%` }} />
            <span className="arena-chance" style={{ left: `${100 * side.chance}%` }} />
            <span className="arena-point" style={{ left: `${100 * side.share}%` }} />
          </div>
          {side.leans ? <Notice kind="warn">{t(side.leans, values)}</Notice> : <p>{t("fair", values)}</p>}
        </div>
      )}
    </Card>
  );
}

function Pairs({ pairs }: { pairs: Board["pairs"] }) {
  const t = useWords(WORDS);
  const all = pairs.rounds + pairs.chats;
  return (
    <Card title={t("pairs")} data-testid="pairs">
      <div className="stack">
        <p>{t("pairsLead", { pairs: count(all), rounds: count(pairs.rounds), chats: count(pairs.chats) })}</p>
        <p className="muted small">{t("left", { ties: count(pairs.tie), bad: count(pairs.both_bad), same: count(pairs.same_or_empty) })}</p>
        {all > 0 && (
          <>
            <div className="row">
              <a className="button" href="/studio/arena/preferences.jsonl" download="preferences.jsonl">
                <Icon name="download" /> {t("download")}
              </a>
            </div>
            <pre className="code" tabIndex={0}>
              smelt data inspect preferences.jsonl
            </pre>
          </>
        )}
      </div>
    </Card>
  );
}
