// What is asked of /v1: sums by key and model, what is in memory, and the last requests as they come.
import { count, date } from "../../format";
import { usePreferences, useWords } from "../../preferences";
import { Await, Badge, Card } from "../../ui";
import { useGet } from "../../use";
import { WORDS } from "./words";

interface Sum {
  owner: string;
  model: string;
  requests: number;
  failed: number;
  prompt_tokens: number;
  generated_tokens: number;
  seconds: number;
}

export interface Entry {
  number: number;
  time: number;
  method: string;
  route: string;
  owner: string;
  model: string;
  status: number;
  ms: number;
  prompt_tokens: number;
  generated_tokens: number;
}

interface Engine {
  name: string;
  state: string;
  answering: number;
  running: number;
  waiting: number;
  free_pages: number;
  pages: number;
}

interface Usage {
  since: number;
  sums: Sum[];
  log: Entry[];
  engines: Engine[];
  all: boolean;
}

const LOOK_AGAIN_SECONDS = 2;

export function UsageCards() {
  const t = useWords(WORDS);
  const { language } = usePreferences();
  const usage = useGet<Usage>("/studio/api/usage", LOOK_AGAIN_SECONDS);
  return (
    <Await of={usage}>
      {(found) => (
        <>
          <Card title={t("usage")} actions={<span className="muted small">{found.all ? t("since", { when: date(found.since, language) }) : t("own")}</span>} data-testid="usage">
            {found.sums.length ? <Sums sums={found.sums} /> : <p className="muted">{t("nothing")}</p>}
          </Card>
          {found.engines.length > 0 && (
            <Card title={t("now")}>
              <Engines engines={found.engines} />
            </Card>
          )}
          <Card title={t("log")} data-testid="log">
            <div className="stack">
              <p className="muted small">{t("logHelp")}</p>
              {found.log.length ? <Log log={found.log} /> : <p className="muted">{t("nothing")}</p>}
            </div>
          </Card>
        </>
      )}
    </Await>
  );
}

function Sums({ sums }: { sums: Sum[] }) {
  const t = useWords(WORDS);
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label={t("usage")}>
      <table>
        <thead>
          <tr>
            <th>{t("key")}</th>
            <th>{t("model")}</th>
            <th className="number">{t("requests")}</th>
            <th className="number">{t("failedCount")}</th>
            <th className="number">{t("promptTokens")}</th>
            <th className="number">{t("generatedTokens")}</th>
            <th className="number">{t("mean")}</th>
          </tr>
        </thead>
        <tbody>
          {sums.map((one) => (
            <tr key={`${one.owner} ${one.model}`}>
              <td>{ownerName(one.owner)}</td>
              <td>{one.model || "–"}</td>
              <td className="number">{count(one.requests)}</td>
              <td className="number">{count(one.failed)}</td>
              <td className="number">{count(one.prompt_tokens)}</td>
              <td className="number">{count(one.generated_tokens)}</td>
              <td className="number">{duration((1000 * one.seconds) / one.requests)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Engines({ engines }: { engines: Engine[] }) {
  const t = useWords(WORDS);
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label={t("now")}>
      <table>
        <thead>
          <tr>
            <th>{t("model")}</th>
            <th>{t("state")}</th>
            <th className="number">{t("running")}</th>
            <th className="number">{t("waiting")}</th>
            <th className="number">{t("pages")}</th>
          </tr>
        </thead>
        <tbody>
          {engines.map((one) => (
            <tr key={one.name}>
              <td>{one.name}</td>
              <td>
                <Badge kind={one.state === "ready" ? "good" : one.state === "failed" ? "bad" : "info"}>{t(`s_${one.state}` as keyof typeof WORDS)}</Badge>
              </td>
              <td className="number">{count(one.running)}</td>
              <td className="number">{count(one.waiting)}</td>
              <td className="number">{one.pages ? `${Math.round(100 * (1 - one.free_pages / one.pages))}%` : "–"}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Log({ log }: { log: Entry[] }) {
  const t = useWords(WORDS);
  const { language } = usePreferences();
  return (
    <div className="scroll log" tabIndex={0} role="region" aria-label={t("log")}>
      <table>
        <thead>
          <tr>
            <th>{t("time")}</th>
            <th>{t("status")}</th>
            <th>{t("route")}</th>
            <th>{t("model")}</th>
            <th>{t("key")}</th>
            <th className="number">{t("took")}</th>
            <th className="number">{t("tokens")}</th>
          </tr>
        </thead>
        <tbody>
          {log.map((entry) => (
            <tr key={entry.number}>
              <td className="nowrap">{new Date(entry.time * 1000).toLocaleTimeString(language)}</td>
              <td>{entry.status === 0 ? <Badge kind="info">{t("underWay")}</Badge> : <Badge kind={kindOf(entry.status)}>{entry.status}</Badge>}</td>
              <td className="nowrap">
                {entry.method} <code>{entry.route}</code>
              </td>
              <td className="nowrap">{entry.model || "–"}</td>
              <td>{ownerName(entry.owner)}</td>
              <td className="number nowrap">{duration(entry.ms)}</td>
              <td className="number nowrap">{entry.prompt_tokens || entry.generated_tokens ? `${count(entry.prompt_tokens)} + ${count(entry.generated_tokens)}` : "–"}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function kindOf(status: number): "good" | "warn" | "bad" {
  return status < 400 ? "good" : status < 500 ? "warn" : "bad";
}

/** A key of a file has no name but its hash, of which the beginning is enough to tell it from others. */
export function ownerName(owner: string): string {
  return /^[0-9a-f]{64}$/.test(owner) ? `${owner.slice(0, 8)}…` : owner || "–";
}

/** 1234.5 -> "1.23 s" */
export function duration(ms: number): string {
  return ms < 1000 ? `${ms.toPrecision(3)} ms` : `${(ms / 1000).toFixed(2)} s`;
}
