// How it stands with a model, in a word, and its numbers in few figures.
import { count } from "../../format";
import { useWords } from "../../preferences";
import { Badge } from "../../ui";
import type { Loaded, Model } from "./types";
import { WORDS } from "./words";

/** The one number that says most: the loss on held-out data, or whatever was measured first. */
export function firstMetric(metrics: Record<string, number>): string | undefined {
  return "validation_loss" in metrics ? "validation_loss" : Object.keys(metrics)[0];
}

export function Metric({ metrics }: { metrics: Record<string, number> }) {
  const name = firstMetric(metrics);
  if (name === undefined) return "–";
  return (
    <>
      {number(metrics[name]!)} <span className="muted small">{name.replaceAll("_", " ")}</span>
    </>
  );
}

export function number(value: number): string {
  return Number.isInteger(value) ? count(value) : String(Number(value.toPrecision(4)));
}

export function States({ model }: { model: Model }) {
  const t = useWords(WORDS);
  return (
    <span className="row states">
      {model.fault && <Badge kind="bad">{t("damaged")}</Badge>}
      {model.loaded.map((one) => (
        <StateBadge key={one.as} loaded={one} />
      ))}
    </span>
  );
}

export function StateBadge({ loaded }: { loaded: Loaded }) {
  const t = useWords(WORDS);
  const weights = loaded.as.split("@")[1];
  const kind = ({ ready: "good", loading: "info", draining: "warn", failed: "bad" } as const)[loaded.state];
  return (
    <Badge kind={kind}>
      {loaded.state === "ready" && loaded.kept ? t("served") : t(loaded.state)}
      {weights && ` · ${weights}`}
    </Badge>
  );
}
