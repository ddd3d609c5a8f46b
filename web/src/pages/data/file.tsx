// One data file: what it is, its rows, reports on it, and what is to be changed in a new version.
import { bytes, count } from "../../format";
import { send } from "../../api";
import { useWords } from "../../preferences";
import { Link, navigate } from "../../router";
import { Await, Badge, Button, Failed, Icon, Notice, Tabs } from "../../ui";
import { useAction, useGet, useQuery } from "../../use";
import { useDraft, type Drafts } from "./edits";
import { Filters } from "./filters";
import { Content, Duplicates, Lengths, Overview } from "./reports";
import { Rows } from "./rows";
import type { About, Files, Made, Version } from "./types";

const WORDS = {
  data: ["Data", "数据"],
  train: ["Use for training", "用于训练"],
  rows: ["Rows", "数据行"],
  overview: ["Overview", "概览"],
  lengths: ["Lengths", "长度"],
  duplicates: ["Duplicates", "重复"],
  content: ["Content", "内容"],
  filters: ["Filters", "过滤"],
  parts: ["Parts of this page", "页面的各部分"],
  unknown: ["unknown format", "未知格式"],
  fits: ["{fits} of the first {sampled} rows fit the format", "前 {sampled} 行中有 {fits} 行符合格式"],
  number: ["{count} rows", "{count} 行"],
  about: ["about {count} rows", "约 {count} 行"],
  from: ["Made from {source}. Edits: {edits}; rows: {before} before, {after} now.", "由 {source} 制成：{edits} 处修改，{before} 行变为 {after} 行。"],
  source: ["Open the source", "打开来源"],
  pending: ["Changes that are not saved: {count}. The file itself stays as it is; they make a new version of it.", "有 {count} 处修改未保存。原文件不会改变；保存会生成新版本。"],
  save: ["Save as a new version", "存为新版本"],
  discard: ["Discard", "放弃"],
  stale: ["The file has changed since these edits were made, so they cannot be saved.", "做出修改之后文件已经改变，因此无法保存。"],
} as const;

export function FilePage({ name }: { name: string }) {
  const t = useWords(WORDS);
  const about = useGet<About>(`/studio/datasets/about?name=${encodeURIComponent(name)}`);
  const place = name.lastIndexOf("/");
  return (
    <div className="page data-file">
      <div className="page-head">
        <div className="data-title">
          <p className="small">
            <Link to="/data">{t("data")}</Link>
            {place > 0 && <span> / {name.slice(0, place)}</span>}
          </p>
          <h1>{name.slice(place + 1)}</h1>
        </div>
        <Link className="button" to={`/train?data=${encodeURIComponent(name)}`}>
          <Icon name="train" /> {t("train")}
        </Link>
      </div>
      <Await of={about}>{(found) => (found.fault ? <Failed error={new Error(found.fault)} /> : <File about={found} />)}</Await>
    </div>
  );
}

function File({ about }: { about: About }) {
  const t = useWords(WORDS);
  const [tab, setTab] = useQuery("tab", "rows");
  const [model, setModel] = useQuery("model");
  const drafts = useDraft(about.name, about.stamp);
  const files = useGet<Files>("/studio/datasets");
  const models = files.data?.models ?? [];
  const chosen = { models, model: model || models[0] || "", onModel: setModel };
  const tabs = { rows: t("rows"), overview: t("overview"), lengths: t("lengths"), duplicates: t("duplicates"), content: t("content"), filters: t("filters") };
  const fitting = about.fits === about.sampled;
  return (
    <>
      <div className="row data-facts">
        <Badge kind={about.format ? "accent" : "warn"}>{about.format || t("unknown")}</Badge>
        <Badge kind={fitting ? "good" : "warn"}>{t("fits", { fits: about.fits, sampled: about.sampled })}</Badge>
        <span className="muted small number">{bytes(about.bytes)}</span>
        {about.rows !== null && <span className="muted small number">{t("number", { count: count(about.rows) })}</span>}
        {about.rows === null && about.about_rows !== null && <span className="muted small number">{t("about", { count: count(about.about_rows) })}</span>}
      </div>
      {about.version && <Origin version={about.version} />}
      <Pending about={about} drafts={drafts} />
      <Tabs tabs={tabs} value={tab in tabs ? (tab as keyof typeof tabs) : "rows"} onChange={setTab} label={t("parts")} />
      {!(tab in tabs) || tab === "rows" ? <Rows name={about.name} drafts={drafts} {...chosen} /> : null}
      {tab === "overview" && <Overview name={about.name} />}
      {tab === "lengths" && <Lengths name={about.name} {...chosen} />}
      {tab === "duplicates" && <Duplicates name={about.name} />}
      {tab === "content" && <Content name={about.name} />}
      {tab === "filters" && <Filters about={about} />}
    </>
  );
}

function Origin({ version }: { version: Version }) {
  const t = useWords(WORDS);
  const values = { source: version.source, edits: version.edits.length, before: count(version.rows_before), after: count(version.rows_after) };
  return (
    <Notice action={<Link to={`/data/${encodeURIComponent(version.source)}`}>{t("source")}</Link>}>
      {t("from", values)}
    </Notice>
  );
}

function Pending({ about, drafts }: { about: About; drafts: Drafts }) {
  const t = useWords(WORDS);
  const save = useAction(async () => {
    const { id, edits, stamp } = drafts.draft!;
    const made = await send<Made>("POST", "/studio/datasets/versions", { id, name: about.name, stamp, edits });
    drafts.discard();
    navigate(`/data/${encodeURIComponent(made.name)}`);
  });
  if (!drafts.draft) return null;
  return (
    <>
      <Notice
        kind="warn"
        action={
          <span className="row">
            <Button small kind="primary" disabled={save.busy || drafts.stale} onClick={() => void save.run()}>
              {t("save")}
            </Button>
            <Button small onClick={drafts.discard}>
              {t("discard")}
            </Button>
          </span>
        }
      >
        <span data-testid="pending">{drafts.stale ? t("stale") : t("pending", { count: drafts.edits.length })}</span>
      </Notice>
      {save.error && <Failed error={save.error} />}
    </>
  );
}
