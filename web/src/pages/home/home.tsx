// Home: what there is on this machine, and where to begin.
import { bytes, count, date } from "../../format";
import { usePreferences, useWords } from "../../preferences";
import { Link } from "../../router";
import { Await, Card, Empty, type IconName } from "../../ui";
import { useGet } from "../../use";
import { FirstModel, isShown, useFirst } from "./first";
import "./home.css";

const WORDS = {
  title: ["Your own language models", "你自己的语言模型"],
  lead: ["What smelt has made and found on this machine.", "smelt 在这台机器上做出和找到的一切。"],
  models: ["Models", "模型"],
  runs: ["Runs", "训练"],
  data: ["Data", "数据"],
  chats: ["Recent chats", "最近的对话"],
  machine: ["This machine", "这台机器"],
  none: ["Nothing yet", "还没有"],
  cores: ["Cores", "核心"],
  memory: ["Memory", "内存"],
  free: ["{free} free of {all}", "共 {all}，可用 {free}"],
  device: ["Device", "设备"],
  system: ["System", "系统"],
  folder: ["Folder", "文件夹"],
  loaded: ["Loaded models", "已加载的模型"],
  all: ["All {count}", "全部 {count}"],
  newTraining: ["New training", "新的训练"],
} as const;

interface Home {
  models: { name: string }[];
  runs: { name: string }[];
  data: { name: string; bytes: number }[];
  chats: { id: string; title: string; created: number }[];
  counts: Record<string, number>;
  machine: { cores: number; memory_bytes: number; free_bytes: number; device: string; system: string; version: string; folder: string; loaded: string[] };
}

export default function HomePage() {
  const t = useWords(WORDS);
  const home = useGet<Home>("/studio/home", 10);
  const first = useFirst();
  return (
    <div className="page">
      <div className="page-head">
        <div>
          <h1>{t("title")}</h1>
          <p>{t("lead")}</p>
        </div>
        {home.data && home.data.counts.models! > 0 && (
          <Link to="/train/new" className="button">
            {t("newTraining")}
          </Link>
        )}
      </div>
      <Await of={home}>
        {(found) => (
          <>
            {isShown(first.data?.first ?? null, found.counts) && <FirstModel first={first} />}
            <div className="grid home">
              {Object.values(found.counts).some((number) => number > 0) && <Lists of={found} />}
              <Machine of={found.machine} />
            </div>
          </>
        )}
      </Await>
    </div>
  );
}

function Lists({ of: found }: { of: Home }) {
  const t = useWords(WORDS);
  const { language } = usePreferences();
  return (
    <>
      <List title={t("models")} icon="models" to="/models" total={found.counts.models!} rows={found.models.map((one) => ({ key: one.name, to: `/chat?model=${encodeURIComponent(one.name)}`, text: one.name }))} />
      <List title={t("runs")} icon="runs" to="/runs" total={found.counts.runs!} rows={found.runs.map((one) => ({ key: one.name, to: `/runs/${encodeURIComponent(one.name)}`, text: one.name }))} />
      <List title={t("chats")} icon="chat" to="/chat" total={found.counts.chats!} rows={found.chats.map((one) => ({ key: one.id, to: `/chat/${one.id}`, text: one.title, note: date(one.created, language) }))} />
      <List title={t("data")} icon="data" to="/data" total={found.counts.data!} rows={found.data.map((one) => ({ key: one.name, to: `/data/${encodeURIComponent(one.name)}`, text: one.name, note: bytes(one.bytes) }))} />
    </>
  );
}

function Machine({ of: machine }: { of: Home["machine"] }) {
  const t = useWords(WORDS);
  return (
    <Card title={t("machine")}>
      <dl className="facts">
        <dt>{t("cores")}</dt>
        <dd>{count(machine.cores)}</dd>
        <dt>{t("memory")}</dt>
        <dd>{t("free", { free: bytes(machine.free_bytes), all: bytes(machine.memory_bytes) })}</dd>
        <dt>{t("device")}</dt>
        <dd>{machine.device}</dd>
        <dt>{t("system")}</dt>
        <dd>
          {machine.system} · smelt {machine.version}
        </dd>
        <dt>{t("folder")}</dt>
        <dd>{machine.folder}</dd>
        <dt>{t("loaded")}</dt>
        <dd>{machine.loaded.join(", ") || "–"}</dd>
      </dl>
    </Card>
  );
}

interface Row {
  key: string;
  to: string;
  text: string;
  note?: string;
}

function List({ title, icon, to, total, rows }: { title: string; icon: IconName; to: string; total: number; rows: Row[] }) {
  const t = useWords(WORDS);
  return (
    <Card title={title} actions={total > rows.length && <Link to={to}>{t("all", { count: total })}</Link>}>
      {rows.length === 0 ? (
        <Empty icon={icon} title={t("none")} />
      ) : (
        <ul className="home-list">
          {rows.map((row) => (
            <li key={row.key}>
              <Link to={row.to} title={row.text}>
                {row.text}
              </Link>
              {row.note && <span className="muted small number">{row.note}</span>}
            </li>
          ))}
        </ul>
      )}
    </Card>
  );
}
