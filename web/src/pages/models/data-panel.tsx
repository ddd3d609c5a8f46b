// What a model was trained on: its files with their hashes at the time, and whether they are the same today.
import { useState } from "react";
import { send } from "../../api";
import { count } from "../../format";
import { useWords } from "../../preferences";
import { Link } from "../../router";
import { Await, Badge, Button, Card, CopyButton, Failed } from "../../ui";
import { useAction, useGet } from "../../use";
import type { DataFiles, Node } from "./types";
import { WORDS } from "./words";

export function DataPanel({ node, close }: { node: Node; close: () => void }) {
  const t = useWords(WORDS);
  const loaded = useGet<DataFiles>(`/studio/models/data?id=${encodeURIComponent(node.id)}`);
  const [checked, setChecked] = useState<DataFiles | null>(null);
  const check = useAction(async () => setChecked(await send<DataFiles>("POST", "/studio/models/data", { name: node.id })));
  return (
    <Card
      title={`${t("data")} · ${node.label}`}
      data-testid="data-panel"
      actions={
        <>
          <Button small onClick={() => void check.run()} disabled={check.busy}>
            {t("check")}
          </Button>
          <Button small kind="quiet" icon="close" label={t("close")} onClick={close} />
        </>
      }
    >
      {check.error && <Failed error={check.error} />}
      <Await of={loaded}>
        {(found) => (
          <div className="stack">
            <dl className="facts">
              <dt>{t("path")}</dt>
              <dd>
                <code>{found.path}</code>
              </dd>
              <dt>{t("fingerprint")}</dt>
              <dd>
                <code>{node.id.replace("data:", "")}</code>
              </dd>
              <dt>{t("usedBy")}</dt>
              <dd>
                <ModelLinks names={found.models} />
              </dd>
            </dl>
            <div className="scroll file-rows" tabIndex={0} role="region" aria-label={t("fileTable")}>
              <table>
                <tbody>
                  {(checked ?? found).files.map((file) => (
                    <tr key={file.file}>
                      <td>{file.name === null ? file.file : <Link to={`/data/${encodeURIComponent(file.name)}`}>{file.file}</Link>}</td>
                      <td>
                        <code className="muted">{file.sha256.slice(0, 12)}</code>
                      </td>
                      <td>{file.name === null ? <Badge kind="warn">{t("missing")}</Badge> : file.same === null ? null : <Badge kind={file.same ? "good" : "bad"}>{t(file.same ? "same" : "changed")}</Badge>}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          </div>
        )}
      </Await>
    </Card>
  );
}

/** A tokenizer, or a model that is not there any more. */
export function GonePanel({ node, users, close }: { node: Node; users: string[]; close: () => void }) {
  const t = useWords(WORDS);
  return (
    <Card title={`${node.kind === "tokenizer" ? t("tokenizer") : t("gone")} · ${node.label}`} actions={<Button small kind="quiet" icon="close" label={t("close")} onClick={close} />} data-testid="node-panel">
      <div className="stack">
        {node.kind === "gone" && <p className="muted">{t("goneText")}</p>}
        <dl className="facts">
          {node.path && (
            <>
              <dt>{t("path")}</dt>
              <dd>
                <code>{node.path}</code>
              </dd>
            </>
          )}
          {node.sha256 && (
            <>
              <dt>{t("hash")}</dt>
              <dd>
                <code>{node.sha256}</code> <CopyButton text={node.sha256} label={t("copyHash")} />
              </dd>
            </>
          )}
          {node.vocabulary && (
            <>
              <dt>{t("size")}</dt>
              <dd>{t("tokens", { count: count(node.vocabulary) })}</dd>
            </>
          )}
          <dt>{t("madeOfIt")}</dt>
          <dd>
            <ModelLinks names={users} />
          </dd>
        </dl>
      </div>
    </Card>
  );
}

export function ModelLinks({ names }: { names: string[] }) {
  return (
    <span className="row">
      {names.map((name) => (
        <Link key={name} to={`/models/${encodeURIComponent(name)}`}>
          {name}
        </Link>
      ))}
    </span>
  );
}
