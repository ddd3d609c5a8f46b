// Models: all of them, as a graph of where they come from or as a list; one of them has a page of its own.
import { bytes, date, short } from "../../format";
import { usePreferences, useWords } from "../../preferences";
import { Link, usePlace } from "../../router";
import { Await, Card, Empty, Tabs } from "../../ui";
import { useGet, useQuery } from "../../use";
import { DataPanel, GonePanel } from "./data-panel";
import { DetailPage } from "./detail";
import { GraphView } from "./graph";
import { MergeList } from "./merging";
import { Metric, States } from "./states";
import type { Listing, Model } from "./types";
import { WORDS } from "./words";
import "./models.css";

const LOOK_AGAIN_SECONDS = 5;

export default function ModelsPage() {
  const { parts } = usePlace();
  const listing = useGet<Listing>("/studio/models", LOOK_AGAIN_SECONDS);
  return parts[1] ? <DetailPage key={parts[1]} name={parts[1]} listing={listing} /> : <Overview listing={listing} />;
}

function Overview({ listing }: { listing: ReturnType<typeof useGet<Listing>> }) {
  const t = useWords(WORDS);
  const [view, setView] = useQuery("view", "lineage");
  const [at, setAt] = useQuery("at");
  return (
    <div className="page models">
      <div className="page-head">
        <div>
          <h1>{t("title")}</h1>
          <p>{t("lead")}</p>
        </div>
      </div>
      <Await of={listing}>
        {(found) =>
          found.models.length === 0 ? (
            <Empty icon="models" title={t("none")}>
              <p>{t("noneHow")}</p>
              <Link to="/train" className="button primary">
                {t("train")}
              </Link>
            </Empty>
          ) : (
            <>
              <Tabs label={t("view")} tabs={{ lineage: t("lineage"), list: t("list") }} value={view === "list" ? "list" : "lineage"} onChange={setView} />
              {view === "list" ? (
                <List models={found.models} />
              ) : (
                <Card>
                  <GraphView graph={found.graph} models={found.models} at={at} />
                </Card>
              )}
              <NodePanel found={found} at={at} close={() => setAt("")} />
              <MergeList />
            </>
          )
        }
      </Await>
    </div>
  );
}

/** What is known of data, of a tokenizer, or of a model that is gone. */
function NodePanel({ found, at, close }: { found: Listing; at: string; close: () => void }) {
  const node = found.graph.nodes.find((one) => one.id === at);
  if (!node) return null;
  const users = found.graph.edges.filter((edge) => edge.from === at).map((edge) => edge.to);
  return node.kind === "data" ? <DataPanel node={node} close={close} /> : <GonePanel node={node} users={users} close={close} />;
}

function List({ models }: { models: Model[] }) {
  const t = useWords(WORDS);
  const { language } = usePreferences();
  return (
    <Card>
      <div className="scroll" tabIndex={0} role="region" aria-label={t("list")}>
        <table>
          <thead>
            <tr>
              <th>{t("name")}</th>
              <th>{t("made")}</th>
              <th className="number">{t("parameters")}</th>
              <th className="number">{t("size")}</th>
              <th>{t("stored")}</th>
              <th>{t("metric")}</th>
              <th>{t("hash")}</th>
              <th>{t("when")}</th>
            </tr>
          </thead>
          <tbody>
            {models.map((model) => (
              <tr key={model.name}>
                <td>
                  <Link to={`/models/${encodeURIComponent(model.name)}`}>{model.name}</Link> <States model={model} />
                </td>
                <td className="nowrap">
                  {model.stage || "–"} <span className="muted small">{model.family}</span>
                </td>
                <td className="number">{model.parameters === null ? "–" : short(model.parameters)}</td>
                <td className="number nowrap">{bytes(model.bytes)}</td>
                <td>{model.dtype ?? "–"}</td>
                <td>
                  <Metric metrics={model.metrics} />
                </td>
                <td>
                  <code>{model.sha256?.slice(0, 8) ?? "–"}</code>
                </td>
                <td className="nowrap">{date(model.created, language)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Card>
  );
}
