// Chat: talk with a model of this machine. The chats at the side, one conversation, and what answers are written with.
import { useCallback, useEffect, useState } from "react";
import { send } from "../../api";
import { useWords } from "../../preferences";
import { Link, navigate, usePlace } from "../../router";
import { Button, Empty, Failed, Loading, Notice } from "../../ui";
import { useGet, useKept, useQuery } from "../../use";
import "./chat.css";
import { Conversation } from "./conversation";
import { ChatList } from "./list";
import { Panel } from "./panel";
import { asked, type Choice, pick, useSettings } from "./settings";
import { useChat } from "./use-chat";
import { WORDS } from "./words";

export default function ChatPage() {
  const choices = useGet<{ models: Choice[] }>("/studio/choices");
  if (choices.data) return <Chats choices={choices.data.models} />;
  return choices.error ? <Failed error={choices.error} retry={choices.reload} /> : <Loading />;
}

function Chats({ choices }: { choices: Choice[] }) {
  const t = useWords(WORDS);
  const id = usePlace().parts[1] ?? null;
  const [leaf, setLeaf] = useQuery("leaf");
  const [wish, setWish] = useQuery("model");
  const [panel, setPanel] = useQuery("panel");
  const [kept, keep] = useKept("chat.model", "");
  const [settings, setSettings] = useSettings();
  const [round, setRound] = useState(0);
  const [menu, setMenu] = useState(false);
  const [answered, setAnswered] = useState("");
  const changed = useCallback(() => setRound((old) => old + 1), []);
  const model = pick(choices, wish, answered, kept);
  const [name, weights = ""] = model.split("@") as [string, string?];
  const of = useChat(id, { model, settings: asked(settings) }, changed);
  const choice = choices.find((one) => one.name === name);
  const base = choice !== undefined && !choice.chat;
  const ready = useReady(model);
  const { chat } = of;
  useEffect(() => setAnswered(chat?.messages.findLast((message) => message.model)?.model ?? ""), [chat?.id]);
  useEffect(() => setMenu(false), [id]);

  const choose = (wanted: string) => {
    keep(wanted);
    setWish(wanted);
  };
  const begin = () => {
    setMenu(false);
    navigate(`/chat${wish ? `?model=${encodeURIComponent(wish)}` : ""}`);
  };
  return (
    <div className="chat" data-menu={menu ? "open" : "closed"} data-panel={panel ? "open" : "closed"}>
      <ChatList current={id} round={round} onNew={begin} onChanged={changed} />
      <div className="chat-main">
        <header className="chat-head">
          <Button kind="quiet" icon={menu ? "close" : "chats"} label={t("chats")} aria-expanded={menu} className="to-list" onClick={() => setMenu(!menu)} />
          <h1>{chat?.title ?? t("new")}</h1>
          <ModelChoice choices={choices} value={name} loading={ready.loading} onChange={(wanted) => choose(weights ? `${wanted}@${weights}` : wanted)} />
          <Button kind="quiet" icon="settings" label={t("settings")} aria-pressed={panel !== ""} onClick={() => setPanel(panel ? "" : "settings")} data-testid="to-panel" />
        </header>
        {choice === undefined ? (
          <Empty icon="models" title={t("noModels")}>
            <Link to="/" className="button primary">
              {t("trainOne")}
            </Link>
          </Empty>
        ) : (
          <>
            {base && <div className="over"><Notice kind="warn">{t("base")}</Notice></div>}
            {ready.error && <div className="over"><Failed error={ready.error} retry={ready.again} /></div>}
            <Conversation id={id} of={of} leaf={leaf} setLeaf={setLeaf} model={model} base={base} />
          </>
        )}
      </div>
      {panel && (
        <Panel
          chat={id}
          leaf={leaf}
          system={of.system}
          base={base}
          weights={weights}
          settings={settings}
          onInstruct={of.actions.instruct}
          onWeights={(wanted) => choose(wanted ? `${name}@${wanted}` : name)}
          onSettings={setSettings}
          onClose={() => setPanel("")}
        />
      )}
    </div>
  );
}

function ModelChoice({ choices, value, loading, onChange }: { choices: Choice[]; value: string; loading: boolean; onChange: (name: string) => void }) {
  const t = useWords(WORDS);
  return (
    <span className="row model">
      {loading && <span className="spinner" role="status" aria-label={t("loadingModel")} title={t("loadingModel")} />}
      <select className="input" aria-label={t("model")} value={value} onChange={(event) => onChange(event.target.value)} data-testid="model">
        {choices.map((one) => (
          <option key={one.name} value={one.name} disabled={one.fault !== null} title={one.fault ?? undefined}>
            {one.name}
          </option>
        ))}
      </select>
    </span>
  );
}

/** Have a model loaded before it is asked, so that its first word comes at once. */
function useReady(model: string) {
  const [state, setState] = useState<{ loading: boolean; error: Error | null }>({ loading: false, error: null });
  const [round, setRound] = useState(0);
  useEffect(() => {
    if (!model) return;
    let left = false;
    setState({ loading: true, error: null });
    send("POST", "/studio/chats/ready", { model }).then(
      () => left || setState({ loading: false, error: null }),
      (error: Error) => left || setState({ loading: false, error }),
    );
    return () => {
      left = true;
    };
  }, [model, round]);
  return { ...state, again: useCallback(() => setRound((old) => old + 1), []) };
}
