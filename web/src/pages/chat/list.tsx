// The chats there are: newest first, searched on the server, renamed and deleted in place.
import { useEffect, useState } from "react";
import { date } from "../../format";
import { send } from "../../api";
import { usePreferences, useWords } from "../../preferences";
import { Link, navigate } from "../../router";
import { Await, Button, Dialog, Failed } from "../../ui";
import { useAction, useGet } from "../../use";
import { WORDS } from "./words";

interface Summary {
  id: string;
  title: string;
  updated: number;
  messages: number;
  excerpt: string;
}

const WAIT_MS = 150; // after a letter is typed

export function ChatList({ current, round, onNew, onChanged }: { current: string | null; round: number; onNew: () => void; onChanged: () => void }) {
  const t = useWords(WORDS);
  const [typed, setTyped] = useState("");
  const [search, setSearch] = useState("");
  const [deleting, setDeleting] = useState<Summary | null>(null);
  useEffect(() => {
    const timer = setTimeout(() => setSearch(typed.trim()), WAIT_MS);
    return () => clearTimeout(timer);
  }, [typed]);
  const found = useGet<{ chats: Summary[] }>(`/studio/chats?search=${encodeURIComponent(search)}`);
  const { reload } = found;
  useEffect(() => {
    if (round) reload();
  }, [round, reload]);
  return (
    <nav className="chat-list" aria-label={t("chats")}>
      <div className="row">
        <Button icon="plus" onClick={onNew} data-testid="new-chat">
          {t("new")}
        </Button>
      </div>
      <input className="input" type="search" aria-label={t("search")} placeholder={t("search")} value={typed} maxLength={200} onChange={(event) => setTyped(event.target.value)} data-testid="search" />
      <Await of={found}>
        {({ chats }) =>
          chats.length === 0 ? (
            <p className="muted small none">{t(search ? "notFound" : "noChats")}</p>
          ) : (
            <ul>
              {chats.map((chat) => (
                <Entry key={chat.id} chat={chat} current={chat.id === current} onDelete={() => setDeleting(chat)} onChanged={onChanged} />
              ))}
            </ul>
          )
        }
      </Await>
      {deleting && (
        <DeleteChat
          chat={deleting}
          onClose={() => setDeleting(null)}
          onDone={() => {
            setDeleting(null);
            onChanged();
            if (deleting.id === current) navigate("/chat", { replace: true });
          }}
        />
      )}
    </nav>
  );
}

function Entry({ chat, current, onDelete, onChanged }: { chat: Summary; current: boolean; onDelete: () => void; onChanged: () => void }) {
  const t = useWords(WORDS);
  const { language } = usePreferences();
  const [title, setTitle] = useState<string | null>(null);
  const rename = useAction(async () => {
    if (title?.trim() && title.trim() !== chat.title) {
      await send("PATCH", `/studio/chats/${chat.id}`, { title: title.trim() });
      onChanged();
    }
    setTitle(null);
  });
  if (title !== null)
    return (
      <li className="entry">
        <form
          onSubmit={(event) => {
            event.preventDefault();
            void rename.run();
          }}
        >
          <input className="input" autoFocus maxLength={200} aria-label={t("rename")} value={title} onChange={(event) => setTitle(event.target.value)} onBlur={() => void rename.run()} onKeyDown={(event) => event.key === "Escape" && setTitle(null)} data-testid="rename" />
        </form>
        {rename.error && <Failed error={rename.error} />}
      </li>
    );
  return (
    <li className="entry" data-testid="chat-entry">
      <Link to={`/chat/${chat.id}`} aria-current={current ? "page" : undefined} title={chat.title}>
        <span className="name">{chat.title}</span>
        <span className="small muted when">{chat.excerpt || date(chat.updated, language)}</span>
      </Link>
      <span className="row acts">
        <Button kind="quiet" small icon="edit" label={t("rename")} onClick={() => setTitle(chat.title)} />
        <Button kind="quiet" small icon="trash" label={t("delete")} onClick={onDelete} />
      </span>
    </li>
  );
}

function DeleteChat({ chat, onClose, onDone }: { chat: Summary; onClose: () => void; onDone: () => void }) {
  const t = useWords(WORDS);
  const drop = useAction(async () => {
    await send("DELETE", `/studio/chats/${chat.id}`);
    onDone();
  });
  return <Confirm title={t("deleteChat")} words={t("deleteChatWords", { title: chat.title })} busy={drop.busy} error={drop.error} onClose={onClose} onYes={() => void drop.run()} />;
}

export function Confirm({ title, words, busy, error, onClose, onYes }: { title: string; words: string; busy: boolean; error: Error | null; onClose: () => void; onYes: () => void }) {
  const t = useWords(WORDS);
  return (
    <Dialog title={title} onClose={onClose}>
      <p>{words}</p>
      {error && <Failed error={error} />}
      <div className="row end">
        <Button onClick={onClose}>{t("cancel")}</Button>
        <Button kind="danger" disabled={busy} onClick={onYes} data-testid="confirm">
          {t("delete")}
        </Button>
      </div>
    </Dialog>
  );
}
