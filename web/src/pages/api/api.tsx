// The API page: how to ask the models from a program, who may, and what is asked.
import { useState } from "react";
import { bytes, count } from "../../format";
import { useWords } from "../../preferences";
import { Link } from "../../router";
import { Await, Badge, Card, CopyButton, Empty, Field, Notice, Tabs } from "../../ui";
import { useGet, useQuery } from "../../use";
import { KeyCard } from "./keys";
import { snippet, type Tool } from "./snippets";
import { UsageCards } from "./usage";
import { WORDS } from "./words";
import "./api.css";

export interface About {
  models: { name: string; loaded: boolean; chat: boolean }[];
  open: boolean;
  locked_next: boolean;
  admin: boolean;
  owner: string;
  scopes: string[];
  limits: Record<string, number>;
}

const TOOLS: Record<Tool, string> = { curl: "curl", openai: "openai-python", langchain: "LangChain" };
const ROUTES = ["POST /v1/chat/completions", "POST /v1/completions", "POST /v1/responses", "POST /v1/embeddings", "POST /v1/tokenize", "POST /v1/detokenize", "GET /v1/models"];

export default function ApiPage() {
  const t = useWords(WORDS);
  const about = useGet<About>("/studio/api", 10);
  const url = `${location.origin}/v1`;
  return (
    <div className="page api">
      <div className="page-head">
        <div>
          <h1>{t("title")}</h1>
          <p>{t("lead")}</p>
        </div>
        <div className="row address">
          <code>{url}</code>
          <CopyButton text={url} label={t("copyUrl")} />
        </div>
      </div>
      <Await of={about}>
        {(found) => (
          <>
            {found.locked_next && <Notice kind="warn">{t("lockedNext")}</Notice>}
            <Snippets about={found} url={url} />
            {found.admin ? <KeyCard about={found} changed={about.reload} /> : <Notice>{t("notAdmin")}</Notice>}
            <UsageCards />
            <div className="grid">
              <Limits limits={found.limits} />
              <Card title={t("routes")}>
                <ul className="stack routes">
                  {ROUTES.map((route) => (
                    <li key={route}>
                      <code>{route}</code>
                    </li>
                  ))}
                </ul>
              </Card>
            </div>
          </>
        )}
      </Await>
    </div>
  );
}

function Snippets({ about, url }: { about: About; url: string }) {
  const t = useWords(WORDS);
  const [tool, setTool] = useQuery("tool", "curl");
  const [named, setNamed] = useQuery("model");
  const [first] = useState(() => about.models[0]);
  const model = about.models.find((one) => one.name === named) ?? about.models.find((one) => one.name === first?.name) ?? about.models[0];
  if (!model)
    return (
      <Card>
        <Empty icon="api" title={t("noModel")}>
          <p>{t("noModelHow")}</p>
          <Link to="/train" className="button primary">
            {t("train")}
          </Link>
        </Empty>
      </Card>
    );
  const chosen: Tool = tool in TOOLS ? (tool as Tool) : "curl";
  const text = snippet(chosen, { url, model: model.name, chat: model.chat, locked: !about.open });
  return (
    <Card title={t("use")} actions={<Badge kind={about.open ? "info" : "good"}>{t(about.open ? "openNow" : "locked")}</Badge>}>
      <div className="stack">
        <Field label={t("model")}>
          {(id) => (
            <select id={id} className="input" value={model.name} onChange={(event) => setNamed(event.target.value)}>
              {about.models.map((one) => (
                <option key={one.name} value={one.name}>
                  {one.loaded ? t("loaded", { name: one.name }) : one.name}
                </option>
              ))}
            </select>
          )}
        </Field>
        <div className="tools">
          <Tabs label={t("tool")} tabs={TOOLS} value={chosen} onChange={setTool} />
          <CopyButton text={text} label={t("copy")} />
        </div>
        <pre className="code" tabIndex={0} data-testid="snippet">
          {text}
        </pre>
        {!about.open && <p className="muted small">{t("setKey")}</p>}
        {!model.loaded && <p className="muted small">{t("firstLoads")}</p>}
      </div>
    </Card>
  );
}

function Limits({ limits }: { limits: Record<string, number> }) {
  const t = useWords(WORDS);
  return (
    <Card title={t("limits")}>
      <dl className="facts">
        {Object.entries(limits).map(([name, value]) => (
          <div key={name} className="pair">
            <dt>{t(`l_${name}` as keyof typeof WORDS)}</dt>
            <dd>{name.endsWith("_bytes") ? bytes(value) : count(value)}</dd>
          </div>
        ))}
      </dl>
    </Card>
  );
}
