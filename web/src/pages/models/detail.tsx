// One model: what it is, where it comes from, what it is made of on the disk, and what can be done with it.
import { useState } from "react";
import { send } from "../../api";
import { bytes, count, date } from "../../format";
import { usePreferences, useWords } from "../../preferences";
import { Link } from "../../router";
import { Await, Badge, Button, Card, CopyButton, Failed, Icon, Notice } from "../../ui";
import { useAction, useGet, type Loaded as Got } from "../../use";
import { ModelLinks } from "./data-panel";
import { DeleteDialog } from "./delete";
import { GraphView } from "./graph";
import { around } from "./layout";
import { MergeForm, MergeList } from "./merging";
import { Serving } from "./serving";
import { number, States } from "./states";
import type { Detail, FileRow, Listing } from "./types";
import { WORDS } from "./words";

const LOOK_AGAIN_SECONDS = 3;

export function DetailPage({ name, listing }: { name: string; listing: Got<Listing> }) {
  const t = useWords(WORDS);
  const detail = useGet<Detail>(`/studio/models/one?name=${encodeURIComponent(name)}`, LOOK_AGAIN_SECONDS);
  return (
    <div className="page models">
      <div>
        <Link to="/models" className="back">
          <Icon name="left" size={15} /> {t("back")}
        </Link>
        {detail.data === null && <h1 className="model-name">{name}</h1>}
      </div>
      <Await of={detail}>{(found) => <One model={found} listing={listing.data} reload={detail.reload} />}</Await>
    </div>
  );
}

function One({ model, listing, reload }: { model: Detail; listing: Listing | null; reload: () => void }) {
  const t = useWords(WORDS);
  const [deleting, setDeleting] = useState(false);
  const name = encodeURIComponent(model.name);
  return (
    <>
      <div className="page-head">
        <div className="stack head">
          <h1 className="model-name">{model.name}</h1>
          <span className="row">
            {model.stage && <Badge kind="accent">{model.stage}</Badge>}
            <Badge>{model.family}</Badge>
            {model.adapter && <Badge>{t("adapter")}</Badge>}
            <States model={model} />
          </span>
        </div>
        <div className="row">
          <Link className="button" to={`/chat?model=${name}`}>
            <Icon name="chat" /> {t("chat")}
          </Link>
          <Link className="button" to={`/arena?models=${name}`}>
            <Icon name="arena" /> {t("arena")}
          </Link>
          <Link className="button" to={`/model?model=${name}`}>
            <Icon name="lens" /> {t("lens")}
          </Link>
          {model.run && (
            <Link className="button" to={`/runs/${name}`}>
              <Icon name="runs" /> {t("openRun")}
            </Link>
          )}
        </div>
      </div>
      {model.fault && <Notice kind="bad">{model.fault}</Notice>}
      {!model.may_change && <Notice>{t("notMay")}</Notice>}
      {listing && (
        <Card title={t("lineage")}>
          <GraphView graph={around(listing.graph, model.name)} models={listing.models} at={model.name} />
        </Card>
      )}
      <div className="grid">
        <Facts model={model} here={listing?.models.some((one) => one.name === model.base) ?? false} />
        {model.may_change && !model.fault && <Serving model={model} reload={reload} />}
        {model.may_change && model.adapter && !model.fault && <MergeForm name={model.name} />}
      </div>
      {model.adapter && <MergeList of={model.name} />}
      <Files model={model} />
      {model.steps.length > 1 && <Steps model={model} />}
      {model.recipe && <Values title={t("recipe")} values={model.recipe} />}
      {model.merge && <Values title={t("merged")} values={model.merge} />}
      {model.may_change && (
        <div className="row">
          <Button kind="danger" icon="trash" onClick={() => setDeleting(true)}>
            {t("delete")}
          </Button>
        </div>
      )}
      {deleting && <DeleteDialog model={model} onClose={() => setDeleting(false)} />}
    </>
  );
}

function Facts({ model, here }: { model: Detail; here: boolean }) {
  const t = useWords(WORDS);
  const { language } = usePreferences();
  return (
    <Card title={t("facts")}>
      <dl className="facts">
        <dt>{t("parameters")}</dt>
        <dd>{model.parameters === null ? "–" : count(model.parameters)}</dd>
        <dt>{t("stored")}</dt>
        <dd>{model.dtype === null ? "–" : t("bits", { dtype: model.dtype, bits: Math.round(model.bits! * 10) / 10 })}</dd>
        <dt>{t("checkpoint")}</dt>
        <dd>{bytes(model.bytes)}</dd>
        {model.all_bytes !== model.bytes && (
          <>
            <dt>{t("whole")}</dt>
            <dd>{bytes(model.all_bytes)}</dd>
          </>
        )}
        {model.sha256 && (
          <>
            <dt>{t("hash")}</dt>
            <dd>
              <code>{model.sha256.slice(0, 16)}…</code>
              <CopyButton text={model.sha256} label={t("copyHash")} />
            </dd>
          </>
        )}
        {model.step !== null && (
          <>
            <dt>{t("step")}</dt>
            <dd>{count(model.step)}</dd>
          </>
        )}
        {model.tokens !== null && (
          <>
            <dt>{t("trained")}</dt>
            <dd>{t("tokens", { count: count(model.tokens) })}</dd>
          </>
        )}
        {model.base && (
          <>
            <dt>{t("onBase")}</dt>
            <dd>{here ? <ModelLinks names={[model.base]} /> : <code>{model.base}</code>}</dd>
          </>
        )}
        <dt>{t("when")}</dt>
        <dd>{date(model.created, language)}</dd>
      </dl>
      <Metrics metrics={model.metrics} />
    </Card>
  );
}

function Metrics({ metrics }: { metrics: Record<string, number> }) {
  const t = useWords(WORDS);
  const rows = Object.entries(metrics);
  return (
    <>
      <h3 className="measured">{t("metrics")}</h3>
      {rows.length === 0 ? (
        <p className="muted">{t("noMetrics")}</p>
      ) : (
        <dl className="facts">
          {rows.map(([name, value]) => (
            <div key={name} className="pair">
              <dt>{name}</dt>
              <dd>{number(value)}</dd>
            </div>
          ))}
        </dl>
      )}
    </>
  );
}

interface Checked {
  sealed: boolean;
  fault: string;
  seconds: number;
  files: FileRow[];
}

function Files({ model }: { model: Detail }) {
  const t = useWords(WORDS);
  const [checked, setChecked] = useState<Checked | null>(null);
  const verify = useAction(async () => setChecked(await send<Checked>("POST", "/studio/models/verify", { name: model.name })));
  return (
    <Card
      title={t("fileTable")}
      actions={
        <>
          <Button small onClick={() => void verify.run()} disabled={verify.busy}>
            {t("verify")}
          </Button>
          <a className="button small" href={`/studio/models/export?name=${encodeURIComponent(model.name)}`} download title={t("exportHelp")} data-testid="export">
            <Icon name="download" size={15} /> {t("export")}
          </a>
        </>
      }
    >
      <div className="stack">
        {verify.error && <Failed error={verify.error} />}
        {checked && <Notice kind={checked.fault ? "bad" : checked.sealed ? "good" : ""}>{checked.fault || (checked.sealed ? t("verified", { seconds: checked.seconds }) : t("hashed"))}</Notice>}
        <div className="scroll" tabIndex={0} role="region" aria-label={t("fileTable")}>
          <table>
            <thead>
              <tr>
                <th>{t("name")}</th>
                <th className="number">{t("size")}</th>
                <th>{t("hash")}</th>
              </tr>
            </thead>
            <tbody>
              {(checked?.files ?? model.files).map((file) => (
                <tr key={file.name}>
                  <td className="nowrap">{file.name}</td>
                  <td className="number nowrap">{bytes(file.bytes)}</td>
                  <td>{file.sha256 ? <code title={file.sha256}>{file.sha256.slice(0, 16)}…</code> : <span className="muted">{file.name === "manifest.json" ? "–" : t("notHashed")}</span>}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </div>
    </Card>
  );
}

function Steps({ model }: { model: Detail }) {
  const t = useWords(WORDS);
  const { language } = usePreferences();
  return (
    <Card title={t("steps")}>
      <div className="scroll" tabIndex={0} role="region" aria-label={t("steps")}>
        <table>
          <tbody>
            {model.steps.map((step) => (
              <tr key={step.name}>
                <td className="number">{count(step.step)}</td>
                <td>
                  <span className="row">
                    {step.newest && <Badge kind="accent">{t("newest")}</Badge>}
                    {step.best && <Badge kind="good">{t("best")}</Badge>}
                  </span>
                </td>
                <td className="number">{bytes(step.bytes)}</td>
                <td>{date(step.created, language)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Card>
  );
}

function Values({ title, values }: { title: string; values: Record<string, unknown> }) {
  return (
    <details className="card values">
      <summary>
        <h2>{title}</h2>
      </summary>
      <pre className="code" tabIndex={0}>
        {JSON.stringify(values, null, 2)}
      </pre>
    </details>
  );
}
