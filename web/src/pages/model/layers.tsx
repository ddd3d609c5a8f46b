// The logit lens: what each layer would say next at each place, if it were the last.
import { percent } from "../../format";
import { useWords } from "../../preferences";
import { Card, Failed, Loading } from "../../ui";
import { Decodes, useAnswer, type Text } from "../../ui/reader";
import { visible, written, type Token } from "../../ui/token";
import { useQuery } from "../../use";

const WORDS = {
  title: ["What each layer would say next", "每一层接下来会说什么"],
  lead: ["A column is a token of the text, a row a layer, the last on top. Darker is surer; the top row is what the model says.", "每列是文本的一个词元，每行是一层，最后一层在最上面。颜色越深越确定；最上一行就是模型的回答。"],
  layer: ["Layer {layer}", "第 {layer} 层"],
  behind: ["After “{token}”", "“{token}” 之后"],
  really: ["In the text", "文中是"],
  cell: ["Layer {layer} after {token}: {guess}, {share}", "第 {layer} 层，在 {token} 之后：{guess}，{share}"],
} as const;

interface Found {
  ids: number[];
  tokens: Token[];
  layers: [id: number, share: number][][][];
  spelled: Record<string, string>;
  decodes_with: string | null;
}

export function LayersView({ text }: { text: Text }) {
  const found = useAnswer<Found>("/studio/lens/layers", text);
  if (found.error) return <Failed error={found.error} retry={found.reload} />;
  return found.data ? <Shown found={found.data} /> : <Loading />;
}

function Shown({ found }: { found: Found }) {
  const t = useWords(WORDS);
  const [place, setPlace] = useQuery("row", String(found.ids.length - 1));
  const at = Math.min(Number(place) || 0, found.ids.length - 1);
  const order = Array.from(found.layers.keys()).reverse();
  const spell = (id: number) => visible(found.spelled[id]!);
  return (
    <>
      <Decodes weights={found.decodes_with} />
      <Card title={t("title")} data-testid="layers">
        <div className="stack">
          <p className="muted">{t("lead")}</p>
          <div className="scroll" tabIndex={0} role="region" aria-label={t("title")}>
            <table className="guesses">
              <thead>
                <tr>
                  <th className="stuck" />
                  {found.tokens.map((token, column) => (
                    <th key={column} aria-current={column === at ? "true" : undefined}>
                      {written(token)}
                    </th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {order.map((layer) => (
                  <tr key={layer}>
                    <th scope="row" className="stuck">
                      {t("layer", { layer })}
                    </th>
                    {found.layers[layer]!.map(([best], column) => (
                      <td key={column}>
                        <button
                          type="button"
                          title={t("cell", { layer, token: written(found.tokens[column]!), guess: spell(best![0]), share: percent(best![1]) })}
                          aria-pressed={column === at}
                          className={best![0] === found.ids[column + 1] ? "right" : ""}
                          style={{ background: `var(--heat-${Math.round(6 * best![1])})` }}
                          onClick={() => setPlace(String(column))}
                        >
                          {spell(best![0])}
                        </button>
                      </td>
                    ))}
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </div>
      </Card>
      <Card title={t("behind", { token: written(found.tokens[at]!) })} actions={at + 1 < found.ids.length && <span className="muted">{`${t("really")}: ${written(found.tokens[at + 1]!)}`}</span>} data-testid="opinions">
        <div className="grid opinions">
          {order.map((layer) => (
            <section key={layer}>
              <h3>{t("layer", { layer })}</h3>
              <ol>
                {found.layers[layer]![at]!.map(([id, share]) => (
                  <li key={id} className={id === found.ids[at + 1] ? "right" : ""}>
                    <span className="mono">{spell(id)}</span>
                    <span className="number">{percent(share)}</span>
                  </li>
                ))}
              </ol>
            </section>
          ))}
        </div>
      </Card>
    </>
  );
}
