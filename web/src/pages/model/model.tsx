// The model lens: one model from its architecture down to one head's numbers.
import { useWords } from "../../preferences";
import { usePlace } from "../../router";
import { Card, Empty, Tabs } from "../../ui";
import { go, ModelChoice, Reader, useText } from "../../ui/reader";
import { ArchitectureView } from "./architecture";
import { AttentionView } from "./attention";
import { LayersView } from "./layers";
import { NeighboursView } from "./neighbours";
import "./model.css";

const WORDS = {
  title: ["Model lens", "模型透镜"],
  lead: ["Look into your own model: its parts and what they cost, who reads whom, what each layer would say.", "看进你自己的模型：它的组成与开销、谁在读谁、每一层会说什么。"],
  views: ["Views", "视图"],
  architecture: ["Architecture", "结构"],
  attention: ["Attention", "注意力"],
  layers: ["Layers", "逐层"],
  neighbours: ["Neighbours", "近邻"],
  choose: ["Choose a model to look into", "选择要查看的模型"],
  read: ["Read a text to see the model at work", "阅读一段文本，看模型如何工作"],
  example: ["The cat sat on the mat because it was warm.", "猫坐在垫子上，因为它很暖和。"],
} as const;

const VIEWS = ["architecture", "attention", "layers", "neighbours"] as const;
type View = (typeof VIEWS)[number];

export default function ModelPage() {
  const t = useWords(WORDS);
  const { parts, query } = usePlace();
  const view = VIEWS.find((one) => one === parts[1]) ?? "architecture";
  const model = query.get("model") ?? "";
  const text = useText();
  const reads = view === "attention" || view === "layers";
  return (
    <div className="page">
      <div className="page-head">
        <div>
          <h1>{t("title")}</h1>
          <p>{t("lead")}</p>
        </div>
      </div>
      <Tabs<View> label={t("views")} value={view} onChange={(name) => go({}, { path: `/model/${name}` })} tabs={{ architecture: t("architecture"), attention: t("attention"), layers: t("layers"), neighbours: t("neighbours") }} />
      {reads ? (
        <Reader busy={false} example={t("example")} forget={["row", "column"]} />
      ) : (
        <Card>
          <ModelChoice value={model} onChange={(name) => go({ model: name, layer: null, head: null, ids: null, token: null }, { replace: !model })} />
        </Card>
      )}
      {!model || (reads && !text) ? (
        <Card>
          <Empty icon="lens" title={t(model ? "read" : "choose")} />
        </Card>
      ) : (
        <>
          {view === "architecture" && <ArchitectureView model={model} />}
          {view === "attention" && text && <AttentionView text={text} />}
          {view === "layers" && text && <LayersView text={text} />}
          {view === "neighbours" && <NeighboursView key={model} model={model} />}
        </>
      )}
    </div>
  );
}
