// The branch that is shown, with the answer that is being written at its end, and what stands where there is none.
import { useEffect, useMemo, useRef, useState } from "react";
import { useWords } from "../../preferences";
import { Button, Failed, Icon, Loading, Notice } from "../../ui";
import { useAction } from "../../use";
import { Composer } from "./composer";
import { Confirm } from "./list";
import { type MessageActions, MessageView } from "./message";
import { PIECE, Piece, useEnd } from "./scroll";
import { branch, leafBelow, type Message, siblings, treeOf, without } from "./tree";
import type { useChat, Writing } from "./use-chat";
import { WORDS } from "./words";

interface Props {
  id: string | null;
  of: ReturnType<typeof useChat>;
  leaf: string;
  setLeaf: (leaf: string) => void;
  model: string;
  base: boolean;
}

export function Conversation({ id, of, leaf, setLeaf, model, base }: Props) {
  const t = useWords(WORDS);
  const { chat, error, writing, failed, actions, reload } = of;
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const [deleting, setDeleting] = useState<Message | null>(null);
  const all = useMemo(() => withWriting(chat?.messages ?? [], writing), [chat, writing]);
  const tree = useMemo(() => treeOf(all), [all]);
  const path = useMemo(() => branch(tree, all, leaf), [tree, all, leaf]);
  const { atEnd, toEnd } = useEnd(scroller, content, id ?? "");
  const last = path.at(-1);

  // What is done to a message does not change when a word is written, so no other message is drawn anew for it.
  const now = useRef({ tree, all, setLeaf, toEnd });
  now.current = { tree, all, setLeaf, toEnd };
  const acts = useMemo<MessageActions>(
    () => ({
      edit: (message, text) => (now.current.setLeaf(""), actions.say(text, message.parent)),
      again: (message) => message.parent !== null && (now.current.setLeaf(""), actions.answer(message.parent)),
      show: (message) => now.current.setLeaf(leafBelow(now.current.tree, message)),
      remove: setDeleting,
      judge: actions.judge,
      returned: (parent, results) => (now.current.setLeaf(""), actions.returned(parent, results)),
    }),
    [actions],
  );
  useEscape(writing, actions.stop);

  return (
    <div className="conversation">
      <div className="scroller" ref={scroller} tabIndex={0} role="region" aria-label={t("conversation")} data-testid="scroller">
        <div className="thread" ref={content}>
          {error ? (
            <Failed error={error} retry={reload} />
          ) : id !== null && chat === null ? (
            <Loading />
          ) : path.length === 0 && !failed ? (
            <Start model={model} base={base} />
          ) : (
            pieces(path).map((piece, place, every) => (
              <Piece key={`${id}-${place}`} count={piece.length} begins={place >= every.length - 3} root={scroller}>
                {() =>
                  piece.map((message) => (
                    <MessageView key={message.id} message={message} versions={siblings(tree, message).map((one) => one.id).join(" ")} last={message === last} busy={writing !== null} actions={acts} />
                  ))
                }
              </Piece>
            ))
          )}
          {failed ? (
            <Notice kind="bad" action={<Button small icon="redo" onClick={() => actions.retry(failed.attempt)} data-testid="retry">{t("retry")}</Button>}>
              {t("broke", { why: failed.error.message })}
            </Notice>
          ) : (
            last && last.role !== "assistant" && !writing && (
              <Notice action={<Button small onClick={() => actions.answer(last.id)} data-testid="answer-it">{t("answer")}</Button>}>{t("unanswered")}</Notice>
            )
          )}
        </div>
      </div>
      <Status writing={writing} />
      <div className="below">
        {!atEnd && (
          <Button small className="to-end" onClick={toEnd} data-testid="to-end">
            <Icon name="down-arrow" size={15} /> {t("latest")}
          </Button>
        )}
        <Composer
          key={id ?? "new"}
          name={id ?? "new"}
          base={base}
          busy={writing !== null}
          stopping={writing?.stopping ?? false}
          disabled={!model || (id !== null && chat === null)}
          onSend={(text) => {
            setLeaf("");
            toEnd();
            actions.say(text, last?.id ?? null);
          }}
          onStop={() => writing && actions.stop(writing)}
        />
      </div>
      {deleting && <DeleteMessage message={deleting} onClose={() => setDeleting(null)} onYes={async () => {
        const { tree: old, all: messages } = now.current;
        const left = without(old, messages, deleting.id);
        const beside = siblings(treeOf(left), deleting).at(-1)?.id ?? deleting.parent;
        await actions.remove(deleting.id);
        setLeaf(beside === null ? "" : leafBelow(treeOf(left), beside));
        setDeleting(null);
      }} />}
    </div>
  );
}

/** The messages, and after them the one that is being written. */
function withWriting(messages: Message[], writing: Writing | null): Message[] {
  if (writing === null || messages.some((one) => one.id === writing.id)) return messages;
  const details = { tool_calls: writing.calls };
  return [...messages, { id: writing.id, parent: writing.parent, role: "assistant", content: writing.text, model: writing.model, details, created: 0, writing: true }];
}

function pieces(path: Message[]): Message[][] {
  return Array.from({ length: Math.ceil(path.length / PIECE) }, (_, place) => path.slice(place * PIECE, (place + 1) * PIECE));
}

/** Escape stops what is being written, wherever on the page it is pressed. */
function useEscape(writing: Writing | null, stop: (writing: Writing) => void) {
  useEffect(() => {
    if (writing === null || writing.stopping) return;
    const onKey = (event: KeyboardEvent) => event.key === "Escape" && !event.isComposing && stop(writing);
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, [writing, stop]);
}

/** How fast it goes, for those who see; that it is over, for those who listen. */
function Status({ writing }: { writing: Writing | null }) {
  const t = useWords(WORDS);
  const [was, setWas] = useState(false);
  useEffect(() => {
    if (writing) setWas(true);
  }, [writing]);
  const seconds = writing?.first ? (performance.now() - writing.first) / 1000 : 0;
  const figures = writing && [t("tokens", { count: writing.tokens }), seconds > 0.2 && writing.tokens > 1 && t("rate", { rate: ((writing.tokens - 1) / seconds).toFixed(1) })].filter(Boolean).join(" · ");
  return (
    <div className="status small muted">
      <span role="status" className={writing ? "" : "unseen"}>
        {writing ? t("writing", { model: writing.model }) : was ? t("done") : ""}
      </span>
      {writing && <span className="number">{figures}</span>}
    </div>
  );
}

function Start({ model, base }: { model: string; base: boolean }) {
  const t = useWords(WORDS);
  return (
    <div className="empty start">
      <Icon name="chat" size={32} />
      <h2>{t(base ? "startBase" : "start")}</h2>
      {model && <p>{t("startWords", { model })}</p>}
    </div>
  );
}

function DeleteMessage({ message, onClose, onYes }: { message: Message; onClose: () => void; onYes: () => Promise<void> }) {
  const t = useWords(WORDS);
  const drop = useAction(onYes);
  const shown = message.content.length > 120 ? `${message.content.slice(0, 119)}…` : message.content;
  return <Confirm title={t("deleteMessage")} words={`${shown}\n\n${t("deleteMessageWords")}`.trim()} busy={drop.busy} error={drop.error} onClose={onClose} onYes={() => void drop.run()} />;
}
