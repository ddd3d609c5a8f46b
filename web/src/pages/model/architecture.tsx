// The architecture: the parts in the order of a forward pass, one of them opened, and what weights and cache cost.
import { bytes, count, percent, short } from "../../format";
import { useWords } from "../../preferences";
import { Link, usePlace } from "../../router";
import { Await, Badge, Card, Icon } from "../../ui";
import { go } from "../../ui/reader";
import { useGet } from "../../use";
import { partsOf, type Anatomy, type Layer, type Part } from "./parts";

const WORDS = {
  parameters: ["Parameters", "参数"],
  active: ["Used by a token", "每个词元用到"],
  weights: ["Weights on disk", "磁盘上的权重"],
  family: ["Family", "系列"],
  context: ["Context", "上下文"],
  width: ["Width", "宽度"],
  vocabulary: ["Vocabulary", "词表"],
  work: ["Work a token", "每词元计算量"],
  tokens: ["{count} tokens", "{count} 个词元"],
  drawing: ["From the text's ids to the next token", "从文本编号到下一个词元"],
  block: ["Block {number}", "第 {number} 块"],
  encoder: ["Encoder", "编码器"],
  recurrent: ["Recurrent layer {number}", "循环层 {number}"],
  embedding: ["Token embedding", "词元嵌入"],
  position: ["Position embedding", "位置嵌入"],
  norm: ["Final norm", "最后的归一化"],
  head: ["Head: scores of the vocabulary", "输出头：词表的分数"],
  tied: ["Head: the embedding again (tied)", "输出头：与嵌入共享"],
  share: ["{share} of the model", "占模型的 {share}"],
  opened: ["{name}: {numbers} parameters", "{name}：{numbers} 个参数"],
  attention: ["Attention", "注意力"],
  feedForward: ["Feed-forward", "前馈"],
  heads: ["{heads} heads of {size}", "{heads} 个头，每个 {size}"],
  grouped: ["{heads} heads of {size}, {kv} for keys and values", "{heads} 个头，每个 {size}，键值 {kv} 个头"],
  look: ["Look at head {head} of block {block}", "查看第 {block} 块的第 {head} 个头"],
  inner: ["{from} → {inner} → {from}, {activation}", "{from} → {inner} → {from}，{activation}"],
  experts: ["{taken} of {experts} experts a token", "每词元用 {experts} 个专家中的 {taken} 个"],
  window: ["window {size}", "窗口 {size}"],
  rotary: ["rotary positions", "旋转位置"],
  latent: ["latent of {size}", "潜变量 {size}"],
  weight: ["Weight", "权重"],
  shape: ["Shape", "形状"],
  numbers: ["Numbers", "数量"],
  type: ["Type", "类型"],
  cost: ["Bytes", "字节"],
  part: ["Share", "占比"],
  cheaper: ["What the weights cost in other formats", "权重在其他格式下的开销"],
  format: ["Format", "格式"],
  size: ["Size", "大小"],
  saves: ["Saves", "节省"],
  cache: ["Keys and values that are kept (KV cache)", "保存的键与值（KV 缓存）"],
  each: ["A token", "每词元"],
  full: ["A full context", "满上下文"],
  computed: ["computed", "推算"],
  noCache: ["This model keeps no keys and values.", "此模型不保存键与值。"],
  formats: ["All matrices in the format, with a scale for each 32 numbers of int8 and int4; vectors stay as they are.", "所有矩阵采用该格式，int8 与 int4 每 32 个数带一个缩放；向量保持不变。"],
  caches: ["smelt serve keeps them as the model's numbers or in int8; int4 is what it would take.", "smelt serve 以模型自身的数值或 int8 保存；int4 为推算值。"],
  adapter: ["This is an adapter: its base is drawn, whose shapes it keeps.", "这是一个适配器：画出的是它的基座，形状相同。"],
} as const;

export function ArchitectureView({ model }: { model: string }) {
  const anatomy = useGet<Anatomy>(`/studio/lens/anatomy?model=${encodeURIComponent(model)}`);
  return <Await of={anatomy}>{(found) => <Drawn anatomy={found} model={model} />}</Await>;
}

function Drawn({ anatomy, model }: { anatomy: Anatomy; model: string }) {
  const t = useWords(WORDS);
  const { query } = usePlace();
  const parts = partsOf(anatomy);
  const opened = parts.find((part) => part.name === query.get("part")) ?? parts.find((part) => part.layer) ?? parts[0]!;
  return (
    <>
      <Card>
        <div className="stack">
          {anatomy.adapter && <p className="muted">{t("adapter")}</p>}
          <dl className="figures" data-testid="figures">
            <Figure name={t("parameters")} value={short(anatomy.numbers)} exact={count(anatomy.numbers)} />
            {anatomy.active !== anatomy.numbers && <Figure name={t("active")} value={short(anatomy.active)} exact={count(anatomy.active)} />}
            <Figure name={t("weights")} value={bytes(anatomy.bytes)} />
            <Figure name={t("family")} value={anatomy.family} />
            <Figure name={t("width")} value={count(anatomy.dim)} />
            <Figure name={t("vocabulary")} value={count(anatomy.vocab_size)} />
            <Figure name={t("context")} value={count(anatomy.context)} />
            <Figure name={t("work")} value={`${short(anatomy.flops_per_token)} FLOP`} />
          </dl>
        </div>
      </Card>
      <div className="anatomy">
        <Card title={t("drawing")}>
          <ol className="drawing">
            {parts.map((part) => (
              <li key={part.name}>
                <button type="button" className="piece" aria-pressed={part === opened} data-kind={part.number === null ? "plain" : "block"} onClick={() => go({ part: part.name }, { replace: true })}>
                  <span className="piece-name">
                    <Name part={part} />
                    <span className="muted small number">{part.number === null ? part.parameters[0]!.shape.map(count).join(" × ") : outline(part.layer)}</span>
                  </span>
                  <span className="muted small number">{short(part.numbers)}</span>
                  <span className="share" style={{ width: `${(100 * part.numbers) / anatomy.numbers}%` }} />
                </button>
              </li>
            ))}
            {anatomy.tied && anatomy.head && (
              <li>
                <div className="piece" data-kind="tied">
                  <span className="piece-name">{t("tied")}</span>
                  <span className="muted small number">+0</span>
                </div>
              </li>
            )}
          </ol>
        </Card>
        <Opened part={opened} anatomy={anatomy} model={model} />
      </div>
      <div className="grid costs">
        <Formats anatomy={anatomy} />
        <Cache anatomy={anatomy} />
      </div>
    </>
  );
}

function outline(layer: Layer | null): string {
  return layer ? `${layer.attention.heads}×${layer.attention.head_dim} · ${count(layer.feed_forward.hidden)}` : "";
}

function Figure({ name, value, exact }: { name: string; value: string; exact?: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
      {exact && <dd className="muted small">{exact}</dd>}
    </div>
  );
}

function Name({ part }: { part: Part }) {
  const t = useWords(WORDS);
  const side = part.name.startsWith("encoder.") ? `${t("encoder")} · ` : "";
  const known = { token_embedding: t("embedding"), position_embedding: t("position"), norm: t("norm"), head: t("head") }[part.name.replace(/^decoder\./, "")];
  if (part.number === null) return side + (known ?? part.name.replaceAll("_", " "));
  return side + t(part.name.includes("recurrent") ? "recurrent" : "block", { number: part.number });
}

function Opened({ part, anatomy, model }: { part: Part; anatomy: Anatomy; model: string }) {
  const t = useWords(WORDS);
  const layer = part.layer;
  const attends = layer && anatomy.causal && !part.name.startsWith("encoder.") && !anatomy.encoder;
  return (
    <Card title={<Name part={part} />} actions={<Badge>{t("share", { share: percent(part.numbers / anatomy.numbers) })}</Badge>} data-testid="opened">
      <div className="stack">
        {layer && (
          <div className="block-parts">
            <section>
              <h3>{t("attention")}</h3>
              <p className="muted small">
                {t(layer.attention.kv_heads === layer.attention.heads ? "heads" : "grouped", { heads: layer.attention.heads, size: layer.attention.head_dim, kv: layer.attention.kv_heads })}
                {layer.attention.rotary && ` · ${t("rotary")}`}
                {layer.attention.window && ` · ${t("window", { size: count(layer.attention.window) })}`}
                {layer.attention.latent && ` · ${t("latent", { size: count(layer.attention.latent) })}`}
              </p>
              {attends && (
                <div className="heads">
                  {Array.from({ length: layer.attention.heads }, (_, head) => (
                    <Link key={head} className="head-link" aria-label={t("look", { head, block: part.number! })} to={`/model/attention?${new URLSearchParams({ ...Object.fromEntries(new URLSearchParams(location.search)), model, layer: String(part.number), head: String(head) })}`} data-first={(head * layer.attention.kv_heads) % layer.attention.heads === 0 && layer.attention.kv_heads < layer.attention.heads}>
                      {head}
                    </Link>
                  ))}
                </div>
              )}
            </section>
            <Icon name="right" />
            <section>
              <h3>{t("feedForward")}</h3>
              <p className="muted small">
                {t("inner", { from: count(anatomy.dim), inner: count(layer.feed_forward.hidden), activation: layer.feed_forward.activation })}
                {layer.feed_forward.experts && ` · ${t("experts", { taken: layer.feed_forward.taken!, experts: layer.feed_forward.experts })}`}
              </p>
            </section>
          </div>
        )}
        <div className="scroll" tabIndex={0} role="region" aria-label={t("weight")}>
          <table className="weights">
            <thead>
              <tr>
                <th>{t("weight")}</th>
                <th className="number">{t("shape")}</th>
                <th className="number">{t("numbers")}</th>
                <th>{t("type")}</th>
                <th className="number">{t("cost")}</th>
                <th className="number">{t("part")}</th>
              </tr>
            </thead>
            <tbody>
              {part.parameters.map((one) => (
                <tr key={one.name}>
                  <td className="mono">{one.name.startsWith(`${part.name}.`) ? one.name.slice(part.name.length + 1) : one.name}</td>
                  <td className="number">{one.shape.map(count).join(" × ")}</td>
                  <td className="number">{count(one.numbers)}</td>
                  <td>{one.dtype}</td>
                  <td className="number">{bytes(one.bytes)}</td>
                  <td className="number">{percent(one.bytes / anatomy.bytes)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </div>
    </Card>
  );
}

function Formats({ anatomy }: { anatomy: Anatomy }) {
  const t = useWords(WORDS);
  return (
    <Card title={t("cheaper")}>
      <Costs rows={anatomy.formats.map((one) => [one.format, [bytes(one.bytes)], one.bytes])} columns={[t("size")]} />
      <p className="muted small">{t("formats")}</p>
    </Card>
  );
}

function Cache({ anatomy }: { anatomy: Anatomy }) {
  const t = useWords(WORDS);
  return (
    <Card title={t("cache")} data-testid="cache">
      {anatomy.cache.length === 0 ? (
        <p className="muted">{t("noCache")}</p>
      ) : (
        <>
          <Costs rows={anatomy.cache.map((one) => [one.offered ? one.format : `${one.format} (${t("computed")})`, [bytes(one.bytes), bytes(one.bytes * anatomy.context)], one.bytes])} columns={[t("each"), t("full")]} />
          <p className="muted small">{t("caches")}</p>
        </>
      )}
    </Card>
  );
}

/** A row a format; what it saves is less than the first row's. */
function Costs({ rows, columns }: { rows: [name: string, cells: string[], bytes: number][]; columns: string[] }) {
  const t = useWords(WORDS);
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label={t("format")}>
      <table>
        <thead>
          <tr>
            <th>{t("format")}</th>
            {columns.map((name) => (
              <th key={name} className="number">
                {name}
              </th>
            ))}
            <th className="number">{t("saves")}</th>
          </tr>
        </thead>
        <tbody>
          {rows.map(([name, cells, size]) => (
            <tr key={name}>
              <td>{name}</td>
              {cells.map((cell, place) => (
                <td key={place} className="number">
                  {cell}
                </td>
              ))}
              <td className="number">{size === rows[0]![2] ? "–" : `${Math.round(100 * (1 - size / rows[0]![2]))}%`}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
