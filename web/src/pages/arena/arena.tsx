// The arena: begin a round, judge one, or see what the votes come to; each has an address of its own.
import { useWords } from "../../preferences";
import { navigate, usePlace } from "../../router";
import { Tabs } from "../../ui";
import "./arena.css";
import { Leaderboard } from "./leaderboard";
import { RoundView } from "./round";
import { Start } from "./start";

const WORDS = {
  title: ["Arena", "竞技场"],
  lead: ["Ask two to four models the same thing and judge without knowing who is who.", "向两到四个模型提同一个问题，在不知道谁是谁的情况下评判。"],
  round: ["Round", "对局"],
  leaderboard: ["Leaderboard", "排行榜"],
} as const;

export default function ArenaPage() {
  const { parts } = usePlace();
  const t = useWords(WORDS);
  const board = parts[1] === "leaderboard";
  return (
    <div className="page">
      <div className="page-head">
        <div>
          <h1>{t("title")}</h1>
          <p>{t("lead")}</p>
        </div>
      </div>
      <Tabs
        tabs={{ round: t("round"), leaderboard: t("leaderboard") }}
        value={board ? "leaderboard" : "round"}
        onChange={(tab) => navigate(tab === "round" ? "/arena" : "/arena/leaderboard")}
        label={t("title")}
      />
      {board ? <Leaderboard /> : parts[1] ? <RoundView key={parts[1]} id={parts[1]} /> : <Start />}
    </div>
  );
}
