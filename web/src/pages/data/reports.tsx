// What a file is like as a whole; each report is made when its tab is opened, and given up when it is left.
import type { ReactNode } from "react";
import { bytes, count } from "../../format";
import { usePreferences, useWords } from "../../preferences";
import { Link } from "../../router";
import { Await, Badge, Card, Empty, Notice } from "../../ui";
import { useGet } from "../../use";
import { Columns, Lines } from "./bars";
import { ModelSelect, type ModelChoice } from "./tokens";
import type { Seen } from "./types";

const WORDS = {
  everything: ["All {count} rows were looked at.", "查看了全部 {count} 行。"],
  first: ["The first {count} rows were looked at.", "查看了前 {count} 行。"],
  sample: ["A sample: {count} rows, spread evenly over the file.", "抽样：在文件中均匀取出 {count} 行。"],
  good: ["Good rows", "有效行"],
  bad: ["Bad rows", "有误的行"],
  empty: ["Rows without text", "没有文字的行"],
  text: ["Text", "文字"],
  format: ["Format", "格式"],
  roles: ["Messages by role", "各角色的消息"],
  kinds: ["Rows by kind", "各类行"],
  allGood: ["Every row that was looked at can be used for training.", "查看过的每一行都可以用于训练。"],
  row: ["Row {row}", "第 {row} 行"],
  rowsBy: ["Rows by length in tokens", "按词元长度分布的行数"],
  tokens: ["tokens", "词元"],
  median: ["median", "中位数"],
  longest: ["longest", "最长"],
  total: ["in all", "合计"],
  refused: ["{count} rows cannot be rendered with this template: {fault}", "有 {count} 行无法用此模板渲染：{fault}"],
  tooLong: ["{count} rows of more than 200,000 characters were left out.", "略去 {count} 行超过 200,000 个字符的数据。"],
  noRows: ["No row has a length", "没有可测量的行"],
  same: ["The same text", "相同的文字"],
  alike: ["Nearly the same text", "几乎相同的文字"],
  repeated: ["rows repeat another", "行与其他行重复"],
  compared: ["among the first {count}: runs of five words or characters overlap by 80 % or more", "在前 {count} 行之中：五个词或字的片段重合达 80 % 以上"],
  ignoring: ["whatever case and white space", "不计大小写与空白"],
  noneSame: ["None found", "没有发现"],
  times: ["{count} times", "{count} 次"],
  more: ["and {count} more", "还有 {count} 行"],
  groups: ["The largest {shown} of {all} groups are shown.", "显示 {all} 组中最大的 {shown} 组。"],
  languages: ["Languages", "语言"],
  languagesHelp: ["The language that a row's text is most likely in; short rows and program code are often unsure.", "每行文字最可能的语言；短文字和程序代码常常无法确定。"],
  noLanguages: ["Languages are told where py3langid is installed: pip install 'smelt-lm[data]'", "安装 py3langid 后可识别语言：pip install 'smelt-lm[data]'"],
  unsure: ["unsure", "不确定"],
  scripts: ["Scripts", "文字系统"],
  scriptsHelp: ["The script of most letters of a row. It is not the language: English and German are both Latin.", "每行大多数字母所属的文字系统。它不等于语言：英语和德语都是拉丁文字。"],
  traces: ["Traces of people", "个人信息痕迹"],
  tracesHelp: ["Found by their form: some are missed, and some are something else.", "按形式查找：会有遗漏，也会有误判。"],
  noTraces: ["None found in these rows", "这些行中没有发现"],
} as const;
type Say = ReturnType<typeof useWords<typeof WORDS>>;

function report<T>(name: string, part: string, more = "") {
  return `/studio/datasets/report?name=${encodeURIComponent(name)}&part=${part}${more}` as string & { answers?: T };
}

function Extent({ of, t }: { of: Seen; t: Say }) {
  return <p className="muted small">{t(of.all ? "everything" : of.spread ? "sample" : "first", { count: count(of.seen) })}</p>;
}

function RowLink({ name, row, children }: { name: string; row: number; children: ReactNode }) {
  return <Link to={`/data/${encodeURIComponent(name)}?from=${row}&row=${row}`}>{children}</Link>;
}

const counted = (table: Record<string, number>) => Object.entries(table).map(([name, value]) => ({ name, value }));

function Figure({ value, name, kind = "" }: { value: ReactNode; name: string; kind?: string }) {
  return (
    <div className={`data-figure ${kind}`}>
      <strong className="number">{value}</strong>
      <span className="muted small">{name}</span>
    </div>
  );
}

interface Summary extends Seen {
  num_ok: number;
  num_bad: number;
  num_empty: number;
  num_bytes: number;
  formats: Record<string, number>;
  roles: Record<string, number>;
  kinds: Record<string, number>;
  bad: { row: number; fault: string }[];
}

export function Overview({ name }: { name: string }) {
  const t = useWords(WORDS);
  const found = useGet<Summary>(report(name, "summary"));
  return (
    <Await of={found}>
      {(seen) => (
        <div className="stack" data-testid="summary">
          <Extent of={seen} t={t} />
          <div className="data-figures">
            <Figure value={count(seen.num_ok)} name={t("good")} />
            <Figure value={count(seen.num_bad)} name={t("bad")} kind={seen.num_bad ? "bad" : ""} />
            <Figure value={count(seen.num_empty)} name={t("empty")} />
            <Figure value={bytes(seen.num_bytes)} name={t("text")} />
          </div>
          <div className="grid">
            {([["format", seen.formats], ["roles", seen.roles], ["kinds", seen.kinds]] as const).map(([key, table]) =>
              Object.keys(table).length ? (
                <Card key={key} title={t(key)}>
                  <Lines bars={counted(table)} all={Object.values(table).reduce((sum, value) => sum + value, 0)} />
                </Card>
              ) : null,
            )}
          </div>
          <Card title={t("bad")}>
            {seen.bad.length === 0 ? (
              <p className="muted">{t("allGood")}</p>
            ) : (
              <ul className="data-faults">
                {seen.bad.map((one) => (
                  <li key={one.row}>
                    <RowLink name={name} row={one.row}>
                      {t("row", { row: count(one.row) })}
                    </RowLink>
                    <span>{one.fault}</span>
                  </li>
                ))}
              </ul>
            )}
          </Card>
        </div>
      )}
    </Await>
  );
}

interface LengthReport extends Seen {
  percentiles: Record<string, number>;
  total: number;
  width: number;
  bars: number[];
  open_end: boolean;
  refused: number;
  too_long: number;
  fault: string;
}

/** Name each bar by the lengths it holds: 0–19, 20–39, and 400+ for the last where it has no end. */
export function named(found: Pick<LengthReport, "bars" | "width" | "open_end">): { name: string; value: number }[] {
  return found.bars.map((value, place) => {
    const from = place * found.width;
    const open = found.open_end && place === found.bars.length - 1;
    return { name: open ? `${from}+` : found.width === 1 ? String(from) : `${from}–${from + found.width - 1}`, value };
  });
}

export function Lengths({ name, ...choice }: { name: string } & ModelChoice) {
  const t = useWords(WORDS);
  const found = useGet<LengthReport>(choice.model ? report(name, "lengths", `&model=${encodeURIComponent(choice.model)}`) : null);
  const words: Record<string, string> = { median: t("median"), longest: t("longest") };
  return (
    <div className="stack">
      <div className="data-model">
        <ModelSelect {...choice} />
      </div>
      <Await of={found}>
        {(seen) => (
          <>
            <Extent of={seen} t={t} />
            {seen.refused > 0 && <Notice kind="warn">{t("refused", { count: count(seen.refused), fault: seen.fault })}</Notice>}
            {seen.too_long > 0 && <Notice>{t("tooLong", { count: count(seen.too_long) })}</Notice>}
            {seen.bars.length === 0 ? (
              <Empty icon="data" title={t("noRows")} />
            ) : (
              <>
                <div className="data-figures">
                  {Object.entries(seen.percentiles).map(([share, value]) => (
                    <Figure key={share} value={count(value)} name={words[share] ?? share} />
                  ))}
                  <Figure value={count(seen.total)} name={t("total")} />
                </div>
                <Card title={t("rowsBy")}>
                  <Columns bars={named(seen)} title={t("rowsBy")} unit={t("tokens")} />
                </Card>
              </>
            )}
          </>
        )}
      </Await>
    </div>
  );
}

interface Group {
  size: number;
  rows: number[];
  text: string;
}

interface DuplicateReport extends Seen {
  exact: number;
  near: number;
  exact_groups: number;
  near_groups: number;
  same: Group[];
  alike: Group[];
  compared: number;
}

export function Duplicates({ name }: { name: string }) {
  const t = useWords(WORDS);
  const found = useGet<DuplicateReport>(report(name, "duplicates"));
  return (
    <Await of={found}>
      {(seen) => (
        <div className="stack" data-testid="duplicates">
          <Extent of={seen} t={t} />
          <Groups name={name} title={t("same")} help={t("ignoring")} total={seen.exact} groups={seen.same} all={seen.exact_groups} t={t} />
          <Groups name={name} title={t("alike")} help={t("compared", { count: count(seen.compared) })} total={seen.near} groups={seen.alike} all={seen.near_groups} t={t} />
        </div>
      )}
    </Await>
  );
}

function Groups({ name, title, help, total, groups, all, t }: { name: string; title: string; help: string; total: number; groups: Group[]; all: number; t: Say }) {
  return (
    <Card title={title} actions={<Badge kind={total ? "warn" : "good"}>{total ? `${count(total)} ${t("repeated")}` : t("noneSame")}</Badge>}>
      <p className="muted small">{help}</p>
      {groups.length > 0 && (
        <ul className="data-groups">
          {groups.map((group) => (
            <li key={group.rows[0]}>
              <span className="data-beginning">{group.text}</span>
              <span className="row small number">
                <Badge>{t("times", { count: group.size })}</Badge>
                {group.rows.map((row) => (
                  <RowLink key={row} name={name} row={row}>
                    {count(row)}
                  </RowLink>
                ))}
                {group.size > group.rows.length && <span className="muted">{t("more", { count: group.size - group.rows.length })}</span>}
              </span>
            </li>
          ))}
        </ul>
      )}
      {all > groups.length && <p className="muted small">{t("groups", { shown: groups.length, all: count(all) })}</p>}
    </Card>
  );
}

interface ContentReport extends Seen {
  scripts: Record<string, number>;
  languages: Record<string, number> | null;
  kinds: Record<string, number>;
  hits: { row: number; kind: string; before: string; text: string; behind: string }[];
}

/** A language's name in the reader's language: "de" is German. */
function languageName(code: string, reader: string, unsure: string): string {
  return code === "unsure" ? unsure : (new Intl.DisplayNames([reader], { type: "language" }).of(code) ?? code);
}

function sum(counts: Record<string, number>): number {
  return Object.values(counts).reduce((all, value) => all + value, 0);
}

export function Content({ name }: { name: string }) {
  const t = useWords(WORDS);
  const { language } = usePreferences();
  const found = useGet<ContentReport>(report(name, "content"));
  return (
    <Await of={found}>
      {(seen) => (
        <div className="stack" data-testid="content">
          <Extent of={seen} t={t} />
          <Card title={t("languages")}>
            <p className="muted small">{t(seen.languages ? "languagesHelp" : "noLanguages")}</p>
            {seen.languages && <Lines bars={counted(seen.languages).map((one) => ({ ...one, name: languageName(one.name, language, t("unsure")) }))} all={sum(seen.languages)} />}
          </Card>
          <Card title={t("scripts")}>
            <p className="muted small">{t("scriptsHelp")}</p>
            <Lines bars={counted(seen.scripts)} all={sum(seen.scripts)} />
          </Card>
          <Card title={t("traces")} actions={counted(seen.kinds).map((one) => <Badge key={one.name} kind="warn">{`${one.name} ${count(one.value)}`}</Badge>)}>
            <p className="muted small">{seen.hits.length ? t("tracesHelp") : t("noTraces")}</p>
            <ul className="data-faults">
              {seen.hits.map((hit, place) => (
                <li key={place}>
                  <RowLink name={name} row={hit.row}>
                    {t("row", { row: count(hit.row) })}
                  </RowLink>
                  <span>
                    <span className="muted">{hit.before}</span> <mark>{hit.text}</mark> <span className="muted">{hit.behind}</span>
                  </span>
                </li>
              ))}
            </ul>
          </Card>
        </div>
      )}
    </Await>
  );
}
