// Keys: made and shown once, listed without themselves, revoked.
import { useState } from "react";
import { send } from "../../api";
import { date } from "../../format";
import { usePreferences, useWords } from "../../preferences";
import { Await, Badge, Button, Card, CopyButton, Dialog, Failed, Field, Notice } from "../../ui";
import { useAction, useGet } from "../../use";
import type { About } from "./api";
import { WORDS } from "./words";

interface Key {
  name: string;
  scopes: string[];
  created: number;
  revoked: number | null;
}

const USUAL = ["models", "metrics"];

export function KeyCard({ about, changed }: { about: About; changed: () => void }) {
  const t = useWords(WORDS);
  const keys = useGet<{ keys: Key[] }>("/studio/api/keys");
  const [making, setMaking] = useState(false);
  const [revoking, setRevoking] = useState<Key | null>(null);
  const again = () => {
    keys.reload();
    changed();
  };
  return (
    <Card
      title={t("keys")}
      data-testid="keys"
      actions={
        <Button small icon="plus" onClick={() => setMaking(true)} disabled={keys.data === null}>
          {t("newKey")}
        </Button>
      }
    >
      <div className="stack">
        <p className="muted small">{t("keysHelp")}</p>
        <Await of={keys}>{(found) => (found.keys.length ? <Table keys={found.keys} revoke={setRevoking} /> : <p className="muted">{t("noKeys")}</p>)}</Await>
      </div>
      {making && <MakeDialog scopes={about.scopes} first={!keys.data?.keys.some((key) => key.revoked === null)} onClose={() => setMaking(false)} made={again} />}
      {revoking && <RevokeDialog name={revoking.name} last={keys.data?.keys.filter((key) => key.revoked === null).length === 1} onClose={() => setRevoking(null)} revoked={again} />}
    </Card>
  );
}

function Table({ keys, revoke }: { keys: Key[]; revoke: (key: Key) => void }) {
  const t = useWords(WORDS);
  const { language } = usePreferences();
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label={t("keys")}>
      <table>
        <thead>
          <tr>
            <th>{t("name")}</th>
            <th>{t("opens")}</th>
            <th>{t("created")}</th>
            <th>{t("state")}</th>
            <th>
              <span className="unseen">{t("revoke")}</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {keys.map((key) => (
            <tr key={key.name} data-testid={`key-${key.name}`}>
              <td>{key.name}</td>
              <td>
                <span className="row scopes">
                  {key.scopes.map((scope) => (
                    <Badge key={scope}>{scope}</Badge>
                  ))}
                </span>
              </td>
              <td className="nowrap">{date(key.created, language)}</td>
              <td>{key.revoked === null ? <Badge kind="good">{t("valid")}</Badge> : <Badge>{t("revoked", { when: date(key.revoked, language) })}</Badge>}</td>
              <td className="number">
                {key.revoked === null && (
                  <Button small kind="danger" onClick={() => revoke(key)} aria-label={`${t("revoke")} ${key.name}`}>
                    {t("revoke")}
                  </Button>
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Make a key; the first one may do everything, so that whoever made it is not locked out of what it opens. */
function MakeDialog({ scopes, first, onClose, made }: { scopes: string[]; first: boolean; onClose: () => void; made: () => void }) {
  const t = useWords(WORDS);
  const [name, setName] = useState("");
  const [chosen, setChosen] = useState(first ? scopes : USUAL);
  const [key, setKey] = useState("");
  const make = useAction(async () => {
    setKey((await send<{ key: string }>("POST", "/studio/api/keys", { name, scopes: chosen })).key);
    made();
  });
  if (key)
    return (
      <Dialog title={t("newKey")} onClose={onClose}>
        <Notice kind="warn">{t("made", { name })}</Notice>
        <div className="tools">
          <pre className="code" tabIndex={0} data-testid="new-key">
            {key}
          </pre>
          <CopyButton text={key} label={t("copyKey")} />
        </div>
        <div className="row">
          <Button kind="primary" onClick={onClose}>
            {t("done")}
          </Button>
        </div>
      </Dialog>
    );
  const change = (scope: string, on: boolean) => setChosen(scopes.filter((one) => (one === scope ? on : chosen.includes(one))));
  return (
    <Dialog title={t("newKey")} onClose={onClose}>
      <form
        className="stack"
        onSubmit={(event) => {
          event.preventDefault();
          void make.run();
        }}
      >
        <Field label={t("keyName")} help={t("nameHelp")}>
          {(id) => <input id={id} className="input" autoComplete="off" value={name} onChange={(event) => setName(event.target.value)} />}
        </Field>
        <fieldset className="stack checks">
          <legend>{t("opens")}</legend>
          {scopes.map((scope) => (
            <label key={scope} className="row">
              <input type="checkbox" checked={chosen.includes(scope)} onChange={(event) => change(scope, event.target.checked)} />
              {t(`scope_${scope}` as keyof typeof WORDS)}
            </label>
          ))}
        </fieldset>
        {make.error && <Failed error={make.error} />}
        <div className="row">
          <Button kind="primary" type="submit" disabled={!name || chosen.length === 0 || make.busy}>
            {t("make")}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

function RevokeDialog({ name, last, onClose, revoked }: { name: string; last: boolean; onClose: () => void; revoked: () => void }) {
  const t = useWords(WORDS);
  const revoke = useAction(async () => {
    await send("DELETE", `/studio/api/keys/${encodeURIComponent(name)}`);
    revoked();
    onClose();
  });
  return (
    <Dialog title={t("revokeTitle", { name })} onClose={onClose}>
      <p>{t("revokeText")}</p>
      {last && <Notice kind="warn">{t("revokeLast")}</Notice>}
      {revoke.error && <Failed error={revoke.error} />}
      <div className="row">
        <Button kind="danger" onClick={() => void revoke.run()} disabled={revoke.busy}>
          {t("revoke")}
        </Button>
      </div>
    </Dialog>
  );
}
