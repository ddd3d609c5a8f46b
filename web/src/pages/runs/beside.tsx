// Runs side by side: where their recipes differ, and the law that their losses follow.
import { short } from "../../format";
import { useWords } from "../../preferences";
import { Link } from "../../router";
import { Await, Empty, Notice } from "../../ui";
import { useGet } from "../../use";
import { joinNames, value } from "./data";
import { WORDS } from "./words";

interface Differing {
  runs: string[];
  differences: { key: string; values: unknown[] }[];
}

export function Differences({ names }: { names: readonly string[] }) {
  const t = useWords(WORDS);
  const found = useGet<Differing>(names.length > 1 ? `/studio/runs/differences?runs=${encodeURIComponent(joinNames(names))}` : null);
  if (names.length < 2) return <Empty icon="runs" title={t("differ_two")} />;
  return (
    <Await of={found}>
      {({ runs, differences }) =>
        differences.length === 0 ? (
          <Empty icon="check" title={t("same")} />
        ) : (
          <div className="scroll" tabIndex={0} role="region" aria-label={t("differences")} data-testid="differences">
            <table>
              <thead>
                <tr>
                  <th>{t("setting")}</th>
                  {runs.map((name) => (
                    <th key={name}>{name}</th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {differences.map(({ key, values }) => (
                  <tr key={key}>
                    <th scope="row" className="mono">
                      {key}
                    </th>
                    {values.map((one, place) => (
                      <td key={place} className="mono">
                        {plain(one)}
                      </td>
                    ))}
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )
      }
    </Await>
  );
}

function plain(setting: unknown): string {
  return setting === null ? "–" : typeof setting === "string" ? setting : JSON.stringify(setting);
}

interface Law {
  unit: string;
  law: { E: number; A: number; B: number; alpha: number; beta: number } | null;
  why: string | null;
  runs: { name: string; parameters: number; tokens: number; flops: number; loss: number; predicted?: number }[];
  skipped: { name: string; reason: string }[];
}

export function ScalingLaw({ names }: { names: readonly string[] }) {
  const t = useWords(WORDS);
  const found = useGet<Law>(names.length > 1 ? `/studio/runs/law?runs=${encodeURIComponent(joinNames(names))}` : null);
  if (names.length < 2) return <Empty icon="runs" title={t("law_two")} />;
  return (
    <Await of={found}>
      {({ unit, law, why, runs, skipped }) => (
        <div className="stack" data-testid="law">
          {law ? (
            <p className="runs-law">{t("law_fit", { E: value(law.E), A: value(law.A), B: value(law.B), alpha: value(law.alpha), beta: value(law.beta), unit })}</p>
          ) : (
            <Notice kind="warn">{why}</Notice>
          )}
          {runs.length > 0 && (
            <div className="scroll">
              <table>
                <thead>
                  <tr>
                    <th>{t("name")}</th>
                    <th className="number">{t("parameters")}</th>
                    <th className="number">{t("tokens")}</th>
                    <th className="number">{t("flops")}</th>
                    <th className="number">{t("loss")}</th>
                    {law && <th className="number">{t("predicted")}</th>}
                  </tr>
                </thead>
                <tbody>
                  {runs.map((run) => (
                    <tr key={run.name}>
                      <td>
                        <Link to={`/runs/${encodeURIComponent(run.name)}`}>{run.name}</Link>
                      </td>
                      <td className="number">{short(run.parameters)}</td>
                      <td className="number">{short(run.tokens)}</td>
                      <td className="number">{run.flops.toExponential(2)}</td>
                      <td className="number">{value(run.loss)}</td>
                      {law && <td className="number">{value(run.predicted)}</td>}
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )}
          {skipped.length > 0 && (
            <details>
              <summary>
                {t("left_out")} ({skipped.length})
              </summary>
              <dl className="facts">
                {skipped.map(({ name, reason }) => (
                  <div key={name} className="runs-left-out">
                    <dt>{name}</dt>
                    <dd>{reason}</dd>
                  </div>
                ))}
              </dl>
            </details>
          )}
        </div>
      )}
    </Await>
  );
}
