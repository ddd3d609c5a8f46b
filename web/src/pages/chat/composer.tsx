// Where a message is written: Enter sends it, Shift+Enter begins a line, and Enter that ends a composition does neither.
import { useLayoutEffect, useRef, type KeyboardEvent } from "react";
import { useWords } from "../../preferences";
import { Button } from "../../ui";
import { useKept } from "../../use";
import { WORDS } from "./words";

interface Props {
  name: string;
  base: boolean;
  busy: boolean;
  stopping: boolean;
  disabled: boolean;
  onSend: (text: string) => void;
  onStop: () => void;
}

export function Composer({ name, base, busy, stopping, disabled, onSend, onStop }: Props) {
  const t = useWords(WORDS);
  const [text, setText] = useKept(`chat.draft.${name}`, "");
  const ref = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => {
    const box = ref.current!;
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight + 2}px`;
  }, [text]);
  const submit = () => {
    if (!text.trim() || busy || disabled) return;
    onSend(text);
    setText("");
  };
  const onKey = (event: KeyboardEvent) => {
    // Safari says 229 for the Enter that ends a composition, after the composition is over.
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    submit();
  };
  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      <textarea ref={ref} rows={1} aria-label={t("say")} placeholder={t(base ? "placeholderBase" : "placeholder")} value={text} onChange={(event) => setText(event.target.value)} onKeyDown={onKey} data-testid="composer" />
      {busy ? (
        <Button key="stop" icon="stop" label={t("stop")} disabled={stopping} onClick={onStop} data-testid="stop" />
      ) : (
        <Button key="send" kind="primary" icon="send" label={t("send")} type="submit" disabled={disabled || !text.trim()} data-testid="send" />
      )}
      <p className="hint small muted">{t("hint")}</p>
    </form>
  );
}
