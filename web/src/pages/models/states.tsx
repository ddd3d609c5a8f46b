// How it stands with a model, in a word, and its numbers in few figures.
import { count } from "../../format";
import { useWords } from "../../preferences";
import { Badge } from "../../ui";
import type { Loaded, Model } from "./types";
import { WORDS } from "./words";

/** {validation_loss: 1.84} -> "validation_loss 1.844" */
export function firstMetric(metrics: Record<string, number>): string {
  const [name] = "validation_loss" in metrics ? ["validation_loss"] : Object.keys(metrics);
  return name === undefined ? "–" : `${name} ${number(metrics[name]!)}`;
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
