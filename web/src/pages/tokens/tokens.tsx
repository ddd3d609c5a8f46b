// The token lens: how likely a model found each token of a text, what else it expected, and where that would have led.
import { newId, send } from "../../api";
import { useWords } from "../../preferences";
import { usePlace } from "../../router";
import { Button, Card, Empty, Failed, Loading } from "../../ui";
import { Decodes, go, Reader, useAnswer, useText } from "../../ui/reader";
import { visible } from "../../ui/token";
import { useAction, useKept, useQuery } from "../../use";
import { Branches, MOST_KEPT, type Branch } from "./branches";
import { Detail, type Settings } from "./detail";
import { Legend, Strip, type Shading } from "./strip";
import type { Lens } from "./words";
import "./tokens.css";

const WORDS = {
  title: ["Token lens", "词元透镜"],
  lead: ["How likely your model found each token of a text, what it expected instead, and where that would have led.", "你的模型认为文本中每个词元有多可能、它原本预期什么，以及那会通向哪里。"],
  example: ["The sun rises in the east and sets in the west.", "太阳从东方升起，在西方落下。"],
  empty: ["Choose a model, then read a text with it", "选择模型，然后用它阅读一段文本"],
  text: ["The text", "文本"],
  shading: ["Colour", "着色"],
  surprise: ["Surprise", "惊讶度"],
  entropy: ["Entropy", "熵"],
} as const;

export default function TokensPage() {
  const t = useWords(WORDS);
  const text = useText();
  const lens = useAnswer<Lens>("/studio/lens/tokens", text);
  return (
    <div className="page">
      <div className="page-head">
        <div>
          <h1>{t("title")}</h1>
          <p>{t("lead")}</p>
        </div>
      </div>
      <Reader busy={lens.busy} example={t("example")} forget={["at", "from"]} />
      {!text && (
        <Card>
          <Empty icon="tokens" title={t("empty")} />
        </Card>
      )}
      {lens.error && <Failed error={lens.error} retry={lens.reload} />}
      {lens.busy && !lens.data && <Loading />}
      {text && lens.data && !lens.error && <Read lens={lens.data} busy={lens.busy} />}
    </div>
  );
}

function Read({ lens, busy }: { lens: Lens; busy: boolean }) {
  const t = useWords(WORDS);
  const { query } = usePlace();
  const [by, setBy] = useQuery("by", "surprise");
  const [settings, setSettings] = useKept<Settings>("tokens.settings", { temperature: 1, topP: 1, length: 24 });
  const [branches, setBranches] = useKept<Branch[]>("tokens.branches", []);
  const at = Math.min(Number(query.get("at") ?? 1) || 0, lens.ids.length);
  const from = Number(query.get("from") ?? Infinity);
  const branch = useAction(async (id: number) => {
    const ids = [...lens.ids.slice(0, at), id];
    const asked = { model: lens.model, ids, max_tokens: settings.length, temperature: settings.temperature, top_p: settings.topP, seed: Math.floor(Math.random() * 2 ** 48) };
    const made = await send<{ ids: number[] }>("POST", "/studio/lens/branch", asked);
    const of = { model: lens.model, text: query.get("text") ?? "", chat: query.get("chat") ?? "" };
    const kept = { ...of, id: newId(), at, token: visible(lens.spelled[id] ?? ""), ids: made.ids.join(".") };
    setBranches([kept, ...branches].slice(0, MOST_KEPT));
    go({ ids: kept.ids, from: String(at), at: String(at) });
  });
  return (
    <div className="tokens-page">
      <div className="stack">
        <Decodes weights={lens.decodes_with} />
        <Card
          title={t("text")}
          actions={
            <div className="row" role="group" aria-label={t("shading")}>
              {(["surprise", "entropy"] as const).map((one) => (
                <Button key={one} small kind="quiet" aria-pressed={by === one} onClick={() => setBy(one)}>
                  {t(one)}
                </Button>
              ))}
            </div>
          }
        >
          <div className="stack" aria-busy={busy}>
            <Strip lens={lens} at={at} from={from} by={by as Shading} onSelect={(place) => go({ at: String(place) }, { replace: true })} />
            <Legend />
          </div>
        </Card>
        <Branches lens={lens} branches={branches} onChange={setBranches} />
      </div>
      <div className="stack">
        {branch.error && <Failed error={branch.error} />}
        <Detail lens={lens} at={at} settings={settings} onSettings={setSettings} onBranch={(id) => void branch.run(id)} busy={branch.busy || busy} />
      </div>
    </div>
  );
}
