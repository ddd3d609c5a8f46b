// What answers are written with: the system prompt of the chat, how tokens are chosen, tools; and the chat as a file.
import { useEffect, useState } from "react";
import { useWords } from "../../preferences";
import { Badge, Button, Failed, Field, Slider } from "../../ui";
import { useAction } from "../../use";
import { DEFAULTS, type Settings, toolsIn, WEIGHTS } from "./settings";
import { type Say, WORDS } from "./words";

interface Props {
  chat: string | null;
  leaf: string;
  system: string;
  base: boolean;
  weights: string;
  settings: Settings;
  onInstruct: (text: string) => Promise<void>;
  onWeights: (weights: string) => void;
  onSettings: (settings: Partial<Settings>) => void;
  onClose: () => void;
}

export function Panel({ chat, leaf, system, base, weights, settings, onInstruct, onWeights, onSettings, onClose }: Props) {
  const t = useWords(WORDS);
  const set = (change: Partial<Settings>) => onSettings({ ...settings, ...change });
  return (
    <aside className="chat-panel stack" aria-label={t("settings")} data-testid="panel">
      <div className="row spread">
        <h2>{t("settings")}</h2>
        <Button kind="quiet" small icon="close" label={t("close")} onClick={onClose} />
      </div>
      <SystemPrompt key={chat} system={system} base={base} onInstruct={onInstruct} />
      <Sampling settings={settings} set={set} onReset={() => onSettings({ tools: settings.tools })} t={t} />
      <Field label={t("weights")}>
        {(id) => (
          <select id={id} className="input" value={weights} onChange={(event) => onWeights(event.target.value)}>
            {WEIGHTS.map((one) => (
              <option key={one} value={one}>
                {one || t("asStored")}
              </option>
            ))}
          </select>
        )}
      </Field>
      {!base && (
        <Field label={t("tools")} help={t("toolsHelp")} problem={toolsIn(settings.tools) === null ? t("toolsWrong") : null}>
          {(id) => <textarea id={id} className="input mono" rows={3} spellCheck={false} value={settings.tools} onChange={(event) => set({ tools: event.target.value })} data-testid="tools" />}
        </Field>
      )}
      {chat && (
        <div className="field">
          <span className="label">{t("export")}</span>
          <div className="row">
            <a className="button small" href={`/studio/chats/${chat}/export/json`} download>
              JSON
            </a>
            <a className="button small" href={`/studio/chats/${chat}/export/markdown${leaf ? `?leaf=${leaf}` : ""}`} download>
              Markdown
            </a>
          </div>
        </div>
      )}
    </aside>
  );
}

function SystemPrompt({ system, base, onInstruct }: { system: string; base: boolean; onInstruct: (text: string) => Promise<void> }) {
  const t = useWords(WORDS);
  const [text, setText] = useState(system);
  useEffect(() => setText(system), [system]);
  const save = useAction(async () => onInstruct(text));
  return (
    <form
      className="stack tight"
      onSubmit={(event) => {
        event.preventDefault();
        void save.run();
      }}
    >
      <Field label={t("system")} help={t(base ? "systemBase" : "systemHelp")}>
        {(id) => <textarea id={id} className="input" rows={4} value={text} onChange={(event) => setText(event.target.value)} data-testid="system" />}
      </Field>
      {save.error && <Failed error={save.error} />}
      <div className="row end">
        {text === system ? system && <Badge kind="good">{t("saved")}</Badge> : <Button small kind="primary" type="submit" disabled={save.busy} data-testid="save-system">{t("save")}</Button>}
      </div>
    </form>
  );
}

function Sampling({ settings, set, onReset, t }: { settings: Settings; set: (change: Partial<Settings>) => void; onReset: () => void; t: Say }) {
  const changed = (Object.keys(DEFAULTS) as (keyof Settings)[]).some((key) => key !== "tools" && settings[key] !== DEFAULTS[key]);
  return (
    <fieldset className="stack">
      <legend className="row spread">
        <h3>{t("sampling")}</h3>
        {changed && (
          <Button kind="quiet" small onClick={onReset}>
            {t("reset")}
          </Button>
        )}
      </legend>
      <Slider label={t("temperature")} value={settings.temperature} min={0} max={2} step={0.05} onChange={(temperature) => set({ temperature })} shown={settings.temperature === 0 ? t("greedy") : settings.temperature.toFixed(2)} />
      <Slider label={t("topP")} value={settings.top_p} min={0.05} max={1} step={0.05} onChange={(top_p) => set({ top_p })} shown={settings.top_p === 1 ? t("off") : settings.top_p.toFixed(2)} />
      <Slider label={t("topK")} value={settings.top_k} min={0} max={200} step={1} onChange={(top_k) => set({ top_k })} shown={settings.top_k === 0 ? t("off") : String(settings.top_k)} />
      <Slider label={t("minP")} value={settings.min_p} min={0} max={0.5} step={0.01} onChange={(min_p) => set({ min_p })} shown={settings.min_p === 0 ? t("off") : settings.min_p.toFixed(2)} />
      <Slider label={t("repetition")} value={settings.repetition_penalty} min={1} max={2} step={0.05} onChange={(repetition_penalty) => set({ repetition_penalty })} shown={settings.repetition_penalty === 1 ? t("off") : settings.repetition_penalty.toFixed(2)} />
      <Field label={t("maxTokens")}>
        {(id) => <input id={id} className="input number" type="number" min={1} max={1_000_000} value={settings.max_tokens} onChange={(event) => set({ max_tokens: Math.min(1_000_000, Math.max(1, Math.round(Number(event.target.value)) || 1)) })} />}
      </Field>
      <Field label={t("seedField")} help={t("seedHelp")}>
        {(id) => <input id={id} className="input number" inputMode="numeric" maxLength={15} value={settings.seed} onChange={(event) => set({ seed: event.target.value.replace(/\D/g, "") })} data-testid="seed" />}
      </Field>
    </fieldset>
  );
}
