// Adapters that are merged into their bases: asked for here, done by a process of its own, told while it runs.
import { useState } from "react";
import { newId, send } from "../../api";
import { useWords } from "../../preferences";
import { Link } from "../../router";
import { Badge, Button, Card, Failed, Field } from "../../ui";
import { useAction, useGet } from "../../use";
import type { Merge } from "./types";
import { WORDS } from "./words";

const LOOK_AGAIN_SECONDS = 2;

export function MergeList({ of }: { of?: string }) {
  const t = useWords(WORDS);
  const { data } = useGet<{ merges: Merge[] }>("/studio/models/merges", LOOK_AGAIN_SECONDS);
  const shown = data?.merges.filter((merge) => of === undefined || merge.adapter === of) ?? [];
  if (shown.length === 0) return null;
  return (
    <Card title={t("merges")} data-testid="merges">
      <ul className="stack">
        {shown.map((merge) => (
          <li key={merge.id} className="row">
            <span>
              {merge.adapter} → {merge.state === "done" ? <Link to={`/models/${encodeURIComponent(merge.out)}`}>{merge.out}</Link> : merge.out}
            </span>
            {merge.state === "running" && <Badge kind="info">{t("merging", { seconds: merge.seconds })}</Badge>}
            {merge.state === "done" && <Badge kind="good">{t("mergeDone", { seconds: merge.seconds, difference: merge.result.largest_logit_difference?.toPrecision(2) ?? "?" })}</Badge>}
            {merge.state === "failed" && (
              <>
                <Badge kind="bad">{t("mergeFailed")}</Badge> <span className="muted small">{merge.error}</span>
              </>
            )}
          </li>
        ))}
      </ul>
    </Card>
  );
}

export function MergeForm({ name }: { name: string }) {
  const t = useWords(WORDS);
  const [out, setOut] = useState(`${name.split("/").pop()}-merged`);
  const [id, setId] = useState(newId);
  const merge = useAction(async () => {
    await send("POST", "/studio/models/merges", { id, name, out });
    setId(newId());
  });
  return (
    <Card title={t("merge")}>
      <form
        className="stack"
        onSubmit={(event) => {
          event.preventDefault();
          void merge.run();
        }}
      >
        <p className="muted small">{t("mergeHelp")}</p>
        <Field label={t("mergeName")}>{(field) => <input id={field} className="input" value={out} onChange={(event) => setOut(event.target.value)} />}</Field>
        {merge.error && <Failed error={merge.error} />}
        <div className="row">
          <Button type="submit" disabled={!out || merge.busy}>
            {t("mergeGo")}
          </Button>
        </div>
      </form>
    </Card>
  );
}
