// The rows of a file, a page at a time: arrows or j and k go through them, and the chosen one is shown beside.
import { useEffect, useRef } from "react";
import { get } from "../../api";
import { count } from "../../format";
import { useWords } from "../../preferences";
import { Await, Badge, Button, Card, Empty, Field } from "../../ui";
import { useGet, useQuery } from "../../use";
import { stateOf, type Drafts } from "./edits";
import { RowView } from "./row";
import type { ModelChoice } from "./tokens";
import type { RowPage } from "./types";

const WORDS = {
  rows: ["Rows", "数据行"],
  none: ["There are no rows here", "这里没有数据行"],
  reading: ["Reading the file up to this row: {count} rows so far", "正在读到这一行：已读 {count} 行"],
  of: ["{from} to {to} of {all}", "{from} 至 {to}，共 {all}"],
  about: ["about {count}", "约 {count}"],
  before: ["Earlier rows", "前面的行"],
  after: ["Later rows", "后面的行"],
  go: ["Go to row", "跳到第几行"],
  bad: ["bad", "有误"],
  empty: ["empty", "空"],
  edited: ["edited", "已改"],
  removed: ["removed", "已删"],
  keys: ["j and k go through the rows; in the list, the arrows do too.", "用 j 和 k 逐行浏览；在列表中也可用方向键。"],
} as const;
const PAGE = 25;

export function Rows({ name, drafts, ...choice }: { name: string; drafts: Drafts } & ModelChoice) {
  const t = useWords(WORDS);
  const [from, setFrom] = useQuery("from", "1");
  const [chosen, setChosen] = useQuery("row");
  const page = useGet<RowPage>(`/studio/datasets/rows?name=${encodeURIComponent(name)}&start=${from}&count=${PAGE}`);
  const rows = page.data?.rows ?? [];
  const row = Number(chosen) || rows[0]?.row || 0;
  const reload = page.reload;
  useEffect(() => {
    if (page.data && !page.data.ready) reload(); // a long way into a long file: each request reads on
  }, [page.data, reload]);

  const turn = async (by: number) => {
    const first = Number(from);
    if (by > 0) {
      const last = rows.at(-1)?.row;
      if (last === undefined || rows.length < PAGE) return;
      const next = await get<RowPage>(`/studio/datasets/rows?name=${encodeURIComponent(name)}&start=${last + 1}&count=1`);
      if (!next.rows.length && next.ready) return;
      setFrom(String(last + 1));
      setChosen(next.rows[0] ? String(next.rows[0].row) : "");
    } else if (first > 1) {
      setFrom(String(Math.max(1, first - PAGE)));
      setChosen("");
    }
  };
  const move = (by: number) => {
    const place = rows.findIndex((one) => one.row === row) + by;
    if (rows[place]) setChosen(String(rows[place].row));
    else void turn(by);
  };
  useKeys(move);
  return (
    <Await of={page}>
      {(found) =>
        !found.ready ? (
          <Empty icon="data" title={t("reading", { count: count(found.known) })} />
        ) : found.rows.length === 0 && from === "1" ? (
          <Empty icon="data" title={t("none")} />
        ) : (
          <div className="data-rows">
            <Card className="data-index" title={<span className="small muted number">{span(found, t)}</span>} actions={<Turn turn={turn} first={from === "1"} last={found.rows.length < PAGE} />}>
              <ul aria-label={t("rows")} data-testid="rows">
                {found.rows.map((one) => (
                  <li key={one.row}>
                    <Choice on={one.row === row} choose={() => setChosen(String(one.row))}>
                      <span className="number muted">{one.row}</span>
                      <span className="data-beginning">{one.text || "–"}</span>
                      {one.state !== "good" && <Badge kind={one.state === "bad" ? "bad" : ""}>{t(one.state)}</Badge>}
                      {stateOf(drafts.edits, one.row) && <Badge kind="warn">{t(stateOf(drafts.edits, one.row) as "edited" | "removed")}</Badge>}
                    </Choice>
                  </li>
                ))}
              </ul>
              <GoTo onGo={(number) => (setFrom(String(number)), setChosen(String(number)))} />
              <p className="muted small data-keys">{t("keys")}</p>
            </Card>
            {row > 0 && <RowView key={row} name={name} number={row} drafts={drafts} {...choice} />}
          </div>
        )
      }
    </Await>
  );
}

function span(page: RowPage, t: (key: "of" | "about", values: Record<string, string | number>) => string): string {
  const all = page.total !== null ? count(page.total) : page.about !== null ? t("about", { count: count(page.about) }) : "…";
  return t("of", { from: count(page.rows[0]?.row ?? 0), to: count(page.rows.at(-1)?.row ?? 0), all });
}

function Turn({ turn, first, last }: { turn: (by: number) => Promise<void>; first: boolean; last: boolean }) {
  const t = useWords(WORDS);
  return (
    <>
      <Button small kind="quiet" icon="left" label={t("before")} disabled={first} onClick={() => void turn(-1)} />
      <Button small kind="quiet" icon="right" label={t("after")} disabled={last} onClick={() => void turn(1)} />
    </>
  );
}

function Choice({ on, choose, children }: { on: boolean; choose: () => void; children: React.ReactNode }) {
  const ref = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    const button = ref.current;
    if (!on || !button) return;
    button.scrollIntoView?.({ block: "nearest" });
    if (document.activeElement?.closest(".data-index li")) button.focus(); // who goes by arrows stays with the row
  }, [on]);
  return (
    <button ref={ref} type="button" aria-current={on || undefined} onClick={choose}>
      {children}
    </button>
  );
}

function GoTo({ onGo }: { onGo: (row: number) => void }) {
  const t = useWords(WORDS);
  return (
    <form
      className="data-goto"
      onSubmit={(event) => {
        event.preventDefault();
        const number = Math.floor(Number(new FormData(event.currentTarget).get("row")));
        if (number >= 1) onGo(number);
      }}
    >
      <Field label={t("go")}>{(id) => <input id={id} className="input" name="row" inputMode="numeric" pattern="[0-9]*" />}</Field>
    </form>
  );
}

/** Call `move` for the keys that go through rows, unless somebody writes. */
function useKeys(move: (by: number) => void): void {
  const latest = useRef(move);
  latest.current = move;
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, textarea, select, [role=tablist], dialog")) return;
      const arrows = target.closest(".data-index") ? { ArrowDown: 1, ArrowUp: -1 } : {}; // elsewhere they scroll
      const by = ({ j: 1, k: -1, ...arrows } as Record<string, number>)[event.key];
      if (by === undefined) return;
      event.preventDefault();
      latest.current(by);
    };
    document.addEventListener("keydown", pressed);
    return () => document.removeEventListener("keydown", pressed);
  }, []);
}
