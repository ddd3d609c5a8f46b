// Charts of counts: columns for a histogram, and lines for named things. Each says its numbers in words, too.
import { count } from "../../format";

export interface Counted {
  name: string;
  value: number;
}

export function Columns({ bars, title, unit }: { bars: Counted[]; title: string; unit: string }) {
  const most = Math.max(1, ...bars.map((bar) => bar.value));
  const step = Math.ceil(bars.length / 6);
  return (
    <figure className="data-columns" role="img" aria-label={`${title}: ${bars.map((bar) => `${bar.name}: ${bar.value}`).join(", ")}`}>
      <div className="data-columns-bars" data-testid="columns">
        {bars.map((bar) => (
          <span key={bar.name} title={`${bar.name} ${unit}: ${count(bar.value)}`}>
            <span style={{ height: `${(100 * bar.value) / most}%` }} />
          </span>
        ))}
      </div>
      <div className="data-columns-names muted small number">
        {bars.map((bar, place) => (
          <span key={bar.name}>{place % step === 0 ? bar.name.split("–")[0] : ""}</span>
        ))}
      </div>
    </figure>
  );
}

export function Lines({ bars, all }: { bars: Counted[]; all: number }) {
  const most = Math.max(1, ...bars.map((bar) => bar.value));
  return (
    <dl className="data-lines">
      {bars.map((bar) => (
        <div key={bar.name}>
          <dt>{bar.name}</dt>
          <dd>
            <span className="data-line" aria-hidden="true">
              <span style={{ width: `${(100 * bar.value) / most}%` }} />
            </span>
            <span className="number">{count(bar.value)}</span>
            <span className="number muted small">{all > 0 && `${((100 * bar.value) / all).toFixed(1)} %`}</span>
          </dd>
        </div>
      ))}
    </dl>
  );
}
