// Train: the trainings that were started here; /train/new is the form, and /train/RUN is one that is watched.
import { count, date } from "../../format";
import { usePreferences, useWords } from "../../preferences";
import { Link, usePlace } from "../../router";
import { Await, Bar, Card, Empty } from "../../ui";
import { isAlive, StateBadge, type State } from "../../ui/watched";
import { useGet } from "../../use";
import { NewTraining } from "./form";
import { verbOf } from "./labels";
import { LiveTraining } from "./live";
import "./train.css";

const WORDS = {
  title: ["Train", "训练"],
  lead: ["Each training is a process of its own: it goes on without this page.", "每个训练都是独立的进程：关闭页面或重启工作室，它都会继续。"],
  new: ["New training", "新的训练"],
  none: ["Nothing was trained from here yet", "还没有从这里训练过"],
  noneHelp: ["Fill in a form, see what it would cost, and start.", "填好表单，看看开销，然后开始。"],
  run: ["Run", "训练"],
  state: ["State", "状态"],
  what: ["What", "类型"],
  progress: ["Progress", "进度"],
  loss: ["Loss", "损失"],
  started: ["Started", "开始时间"],
} as const;

interface Row {
  run: string;
  verb: string;
  state: State;
  started: number;
  loss: number | null;
  step: number;
  steps: number | null;
}

export default function TrainPage() {
  const { parts } = usePlace();
  if (parts[1] === "new") return <NewTraining />;
  if (parts[1]) return <LiveTraining key={parts[1]} run={parts[1]} />;
  return <Trainings />;
}

function Trainings() {
  const t = useWords(WORDS);
  const { language } = usePreferences();
  const listed = useGet<{ trainings: Row[] }>("/studio/train", 3);
  return (
    <div className="page">
      <div className="page-head">
        <div>
          <h1>{t("title")}</h1>
          <p>{t("lead")}</p>
        </div>
        <Link to="/train/new" className="button primary">
          {t("new")}
        </Link>
      </div>
      <Await of={listed}>
        {({ trainings }) =>
          trainings.length === 0 ? (
            <Card>
              <Empty icon="train" title={t("none")}>
                <p>{t("noneHelp")}</p>
                <Link to="/train/new" className="button primary">
                  {t("new")}
                </Link>
              </Empty>
            </Card>
          ) : (
            <Card data-testid="trainings">
              <div className="scroll nowrap" tabIndex={0} role="region" aria-label={t("title")}>
                <table>
                  <thead>
                    <tr>
                      <th>{t("run")}</th>
                      <th>{t("state")}</th>
                      <th>{t("what")}</th>
                      <th>{t("progress")}</th>
                      <th className="number">{t("loss")}</th>
                      <th>{t("started")}</th>
                    </tr>
                  </thead>
                  <tbody>
                    {trainings.map((row) => (
                      <tr key={row.run}>
                        <td>
                          <Link to={row.verb === "quickstart" ? "/" : `/train/${encodeURIComponent(row.run)}`}>{row.run}</Link>
                        </td>
                        <td>
                          <StateBadge state={row.state} />
                        </td>
                        <td>{verbOf(row.verb, language)}</td>
                        <td className="progress">
                          {row.steps !== null && (
                            <>
                              {isAlive(row.state) && <Bar share={row.step / row.steps} label={`${t("progress")} ${row.run}`} />}
                              <span className="muted small number">
                                {count(row.step)} / {count(row.steps)}
                              </span>
                            </>
                          )}
                        </td>
                        <td className="number">{row.loss?.toFixed(3) ?? "–"}</td>
                        <td className="nowrap">{date(row.started, language)}</td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </div>
            </Card>
          )
        }
      </Await>
    </div>
  );
}
