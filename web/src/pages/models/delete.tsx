// Deleting a model: refused while something needs it, which is named; else the name has to be typed.
import { useState } from "react";
import { send } from "../../api";
import { bytes } from "../../format";
import { useWords } from "../../preferences";
import { navigate } from "../../router";
import { Button, Dialog, Failed, Field } from "../../ui";
import { useAction } from "../../use";
import { ModelLinks } from "./data-panel";
import type { Detail, Needed } from "./types";
import { WORDS } from "./words";

const REASONS: Record<Needed["kind"], keyof typeof WORDS> = { child: "child", adapter: "onIt", inside: "inside", training: "training", loaded: "loadedNow", merge: "mergeNow" };

export function DeleteDialog({ model, onClose }: { model: Detail; onClose: () => void }) {
  const t = useWords(WORDS);
  const [typed, setTyped] = useState("");
  const remove = useAction(async () => {
    await send("DELETE", "/studio/models", { name: model.name, typed });
    navigate("/models");
  });
  return (
    <Dialog title={t("deleteTitle", { name: model.name })} onClose={onClose}>
      {model.needed_by.length > 0 ? (
        <div className="stack" data-testid="needed">
          <p>{t("needed")}</p>
          <ul className="stack">
            {model.needed_by.map((one) => (
              <li key={one.kind + one.name} className="row">
                {one.kind === "loaded" ? <code>{one.name}</code> : <ModelLinks names={[one.name]} />}
                <span className="muted">{t(REASONS[one.kind])}</span>
              </li>
            ))}
          </ul>
        </div>
      ) : (
        <form
          className="stack"
          onSubmit={(event) => {
            event.preventDefault();
            void remove.run();
          }}
        >
          <p>{t("deleteText", { size: bytes(model.all_bytes) })}</p>
          <Field label={model.name}>{(id) => <input id={id} className="input" autoComplete="off" value={typed} onChange={(event) => setTyped(event.target.value)} />}</Field>
          {remove.error && <Failed error={remove.error} />}
          <div className="row">
            <Button kind="danger" type="submit" icon="trash" disabled={typed !== model.name || remove.busy}>
              {t("deleteGo")}
            </Button>
          </div>
        </form>
      )}
    </Dialog>
  );
}
