// Attention: of one layer all heads side by side, of one head the map, of one token what it reads, in numbers.
import { useMemo, useState } from "react";
import { percent } from "../../format";
import { useWords } from "../../preferences";
import { Button, Card, Failed, Loading } from "../../ui";
import { Decodes, go, unpack, useAnswer, type Text } from "../../ui/reader";
import { written, type Token } from "../../ui/token";
import { useQuery } from "../../use";
import { HeadNumbers } from "./head";
import { HeadMap, Small, type Cell } from "./map";

const WORDS = {
  layer: ["Layer", "层"],
  of: ["Layer {layer} of {last}", "第 {layer} 层，共到 {last}"],
  previous: ["Previous layer", "上一层"],
  following: ["Next layer", "下一层"],
  heads: ["Heads", "头"],
  head: ["Head {head}", "头 {head}"],
  map: ["Layer {layer}, head {head}: each row is a token, and shows which tokens it reads. Arrow keys move.", "第 {layer} 层，头 {head}：每行是一个词元，显示它读哪些词元。方向键移动。"],
  cell: ["{row} reads {column}: {share}", "{row} 读 {column}：{share}"],
  reads: ["What “{token}” reads", "“{token}” 读什么"],
  token: ["Token", "词元"],
  weight: ["Weight", "权重"],
  others: ["{count} others", "其余 {count} 个"],
  sum: ["Sum", "合计"],
  sinks: ["What is missing to 100% goes to the head's sink.", "不足 100% 的部分归入该头的汇点。"],
  back: ["looks back {far} tokens on average, spread over {bits} bits", "平均回看 {far} 个词元，分散度 {bits} 比特"],
  text: ["Click a token to see what it reads", "点击词元查看它读什么"],
} as const;

const SHOWN = 14;

export interface Found {
  ids: number[];
  tokens: Token[];
  layer: number;
  layers: number;
  heads: number;
  kv_heads: number;
  sinks: boolean;
  weights: string;
  decodes_with: string | null;
}

export function AttentionView({ text }: { text: Text }) {
  const [layer] = useQuery("layer", "0");
  const found = useAnswer<Found>("/studio/lens/attention", { ...text, layer: Number(layer) || 0 });
  if (found.error) return <Failed error={found.error} retry={found.reload} />;
  if (!found.data) return <Loading />;
  return <Shown found={found.data} model={text.model} busy={found.busy} />;
}

/** How far a head looks back, and over how many tokens it spreads, as bits; both a mean of all rows. */
export function habits(weights: Float32Array, size: number): { far: number; bits: number } {
  let [far, bits] = [0, 0];
  weights.forEach((weight, place) => {
    if (weight <= 0) return;
    far += weight * (Math.floor(place / size) - (place % size));
    bits -= weight * Math.log2(weight);
  });
  return { far: far / size, bits: bits / size };
}

function Shown({ found, model, busy }: { found: Found; model: string; busy: boolean }) {
  const t = useWords(WORDS);
  const size = found.tokens.length;
  const heads = useMemo(() => {
    const all = unpack(found.weights);
    return Array.from({ length: found.heads }, (_, head) => all.subarray(head * size * size, (head + 1) * size * size));
  }, [found, size]);
  const [asked, setHead] = useQuery("head", "0");
  const [row, setRow] = useQuery("row", String(size - 1));
  const [hovered, setHovered] = useState<Cell | null>(null);
  const [column, setColumn] = useState(0);
  const head = Math.min(Number(asked) || 0, found.heads - 1);
  const chosen: Cell = { row: Math.min(Number(row) || 0, size - 1), column: Math.min(column, size - 1) };
  const cell = hovered ?? chosen;
  const weights = heads[head]!;
  const choose = (next: Cell, kept: boolean) => {
    setHovered(kept ? null : next);
    if (!kept) return;
    setRow(String(next.row));
    setColumn(next.column);
  };
  const name = (place: number) => written(found.tokens[place]!);
  const { far, bits } = habits(weights, size);
  const step = (by: number) => go({ layer: String(found.layer + by) }, { replace: true });
  return (
    <>
      <Decodes weights={found.decodes_with} />
      <Card
        title={t("of", { layer: found.layer, last: found.layers - 1 })}
        actions={
          <>
            <Button small icon="left" label={t("previous")} disabled={found.layer === 0} onClick={() => step(-1)} />
            <select className="input layer-choice" aria-label={t("layer")} value={found.layer} onChange={(event) => go({ layer: event.target.value }, { replace: true })} data-testid="layer">
              {Array.from({ length: found.layers }, (_, layer) => (
                <option key={layer}>{layer}</option>
              ))}
            </select>
            <Button small icon="right" label={t("following")} disabled={found.layer === found.layers - 1} onClick={() => step(1)} />
          </>
        }
      >
        <div className="small-maps" role="group" aria-label={t("heads")} aria-busy={busy}>
          {heads.map((one, number) => (
            <button key={number} type="button" aria-pressed={number === head} onClick={() => setHead(String(number))} data-testid={`head-${number}`}>
              <Small weights={one} size={size} />
              {t("head", { head: number })}
            </button>
          ))}
        </div>
      </Card>
      <div className="attention-page" onPointerLeave={() => setHovered(null)}>
        <Card title={t("head", { head })} data-testid="attention" data-layer={found.layer}>
          <div className="stack">
            <HeadMap weights={weights} size={size} cell={cell} label={t("map", { layer: found.layer, head })} onCell={choose} />
            <p className="number" aria-live="polite" data-testid="cell">
              {t("cell", { row: name(cell.row), column: name(cell.column), share: percent(weights[cell.row * size + cell.column]!) })}
            </p>
            <p className="muted small">{t("back", { far: far.toFixed(1), bits: bits.toFixed(2) })}</p>
          </div>
        </Card>
        <div className="stack">
          <Card title={t("text")}>
            <div className="read-text">
              {found.tokens.map((_, place) => (
                <button key={place} type="button" aria-pressed={place === chosen.row} style={{ background: tint(weights[cell.row * size + place]!) }} onClick={() => choose({ row: place, column: chosen.column }, true)}>
                  {name(place)}
                </button>
              ))}
            </div>
          </Card>
          <Card title={t("reads", { token: name(chosen.row) })} data-testid="row">
            <Row weights={weights.subarray(chosen.row * size, (chosen.row + 1) * size)} name={name} sinks={found.sinks} />
          </Card>
        </div>
      </div>
      <HeadNumbers model={model} layer={found.layer} head={head} />
    </>
  );
}

/** The same scale as the map's: the root of the weight. */
function tint(weight: number): string {
  return `var(--heat-${Math.round(6 * Math.sqrt(Math.min(1, weight)))})`;
}

function Row({ weights, name, sinks }: { weights: Float32Array; name: (place: number) => string; sinks: boolean }) {
  const t = useWords(WORDS);
  const places = Array.from(weights.keys())
    .filter((place) => weights[place]! > 0)
    .sort((a, b) => weights[b]! - weights[a]!);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const rest = places.slice(SHOWN).reduce((sum, place) => sum + weights[place]!, 0);
  return (
    <>
      <table className="row-numbers">
        <thead>
          <tr>
            <th className="number">#</th>
            <th>{t("token")}</th>
            <th className="number">{t("weight")}</th>
          </tr>
        </thead>
        <tbody>
          {places.slice(0, SHOWN).map((place) => (
            <tr key={place}>
              <td className="number muted">{place}</td>
              <td className="mono">{name(place)}</td>
              <td className="number">{percent(weights[place]!)}</td>
            </tr>
          ))}
          {places.length > SHOWN && (
            <tr>
              <td />
              <td className="muted">{t("others", { count: places.length - SHOWN })}</td>
              <td className="number">{percent(rest)}</td>
            </tr>
          )}
        </tbody>
        <tfoot>
          <tr>
            <td />
            <th scope="row">{t("sum")}</th>
            <td className="number" data-testid="sum">
              {percent(total)}
            </td>
          </tr>
        </tfoot>
      </table>
      {sinks && <p className="muted small">{t("sinks")}</p>}
    </>
  );
}
