// The weights of one head: the shape of each of its matrices, and how their numbers are spread.
import { count } from "../../format";
import { useWords } from "../../preferences";
import { Await, Card } from "../../ui";
import { useGet } from "../../use";

const WORDS = {
  title: ["The numbers of layer {layer}, head {head}", "第 {layer} 层头 {head} 的数值"],
  query: ["Query", "查询"],
  key: ["Key", "键"],
  value: ["Value", "值"],
  output: ["Output", "输出"],
  shape: ["Shape", "形状"],
  mean: ["Mean", "均值"],
  deviation: ["Deviation", "标准差"],
  range: ["Range", "范围"],
  norm: ["Norm", "范数"],
  spread: ["How the numbers of {name} are spread", "{name} 的数值分布"],
} as const;

interface Matrix {
  name: "query" | "key" | "value" | "output";
  shape: number[];
  mean: number;
  deviation: number;
  low: number;
  high: number;
  norm: number;
  histogram: number[];
}

export function HeadNumbers({ model, layer, head }: { model: string; layer: number; head: number }) {
  const t = useWords(WORDS);
  const found = useGet<{ matrices: Matrix[] }>(`/studio/lens/head?${new URLSearchParams({ model, layer: String(layer), head: String(head) })}`);
  return (
    <Card title={t("title", { layer, head })} data-testid="head">
      <Await of={found}>
        {({ matrices }) => (
          <div className="grid matrices">
            {matrices.map((one) => (
              <section key={one.name}>
                <h3>{t(one.name)}</h3>
                <Histogram counts={one.histogram} label={t("spread", { name: t(one.name) })} />
                <dl className="facts small">
                  <dt>{t("shape")}</dt>
                  <dd>{one.shape.map(count).join(" × ")}</dd>
                  <dt>{t("mean")}</dt>
                  <dd>{one.mean.toFixed(4)}</dd>
                  <dt>{t("deviation")}</dt>
                  <dd>{one.deviation.toFixed(4)}</dd>
                  <dt>{t("range")}</dt>
                  <dd>
                    {one.low.toFixed(3)} … {one.high.toFixed(3)}
                  </dd>
                  <dt>{t("norm")}</dt>
                  <dd>{one.norm.toFixed(3)}</dd>
                </dl>
              </section>
            ))}
          </div>
        )}
      </Await>
    </Card>
  );
}

function Histogram({ counts, label }: { counts: number[]; label: string }) {
  const most = Math.max(...counts);
  return (
    <svg className="histogram" viewBox={`0 0 ${counts.length} 20`} preserveAspectRatio="none" role="img" aria-label={label}>
      {counts.map((one, place) => (
        <rect key={place} x={place + 0.1} width={0.8} y={20 - (20 * one) / most} height={(20 * one) / most} />
      ))}
    </svg>
  );
}
