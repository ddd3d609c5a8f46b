// Keeping a model in memory: as it is stored, or with its weights made smaller while they are loaded.
import { useState } from "react";
import { send } from "../../api";
import { useWords } from "../../preferences";
import { Button, Card, Failed, Field, Notice } from "../../ui";
import { useAction } from "../../use";
import { StateBadge } from "./states";
import type { Detail } from "./types";
import { WORDS } from "./words";

const WEIGHTS = ["", "fp32", "bf16", "int8", "int4"];

export function Serving({ model, reload }: { model: Detail; reload: () => void }) {
  const t = useWords(WORDS);
  const [weights, setWeights] = useState("");
  const serve = useAction(async () => {
    await send("POST", "/studio/models/serve", { name: model.name, weights });
    reload();
  });
  const unserve = useAction(async (name: string) => {
    await send("POST", "/studio/models/unserve", { name });
    reload();
  });
  return (
    <Card title={t("serving")} data-testid="serving">
      <div className="stack">
        <p className="muted small">{t("servingHelp")}</p>
        {model.loaded.length === 0 && <p>{t("notLoaded")}</p>}
        {model.loaded.map((one) => (
          <div key={one.as} className="stack">
            <div className="row">
              <code>{one.as}</code>
              <StateBadge loaded={one} />
              {one.answering > 0 && <span className="muted small">{t("answering", { count: one.answering })}</span>}
              <Button small onClick={() => void unserve.run(one.as)} disabled={unserve.busy}>
                {t("unserve")}
              </Button>
            </div>
            {one.failure && <Notice kind="bad">{one.failure}</Notice>}
          </div>
        ))}
        {unserve.error && <Failed error={unserve.error} />}
        <div className="row end">
          <Field label={t("weights")}>
            {(id) => (
              <select id={id} className="input" value={weights} onChange={(event) => setWeights(event.target.value)}>
                {WEIGHTS.map((one) => (
                  <option key={one} value={one}>
                    {one || t("asStored")}
                  </option>
                ))}
              </select>
            )}
          </Field>
          <Button kind="primary" icon="play" onClick={() => void serve.run()} disabled={serve.busy}>
            {t("serve")}
          </Button>
        </div>
        {serve.error && <Failed error={serve.error} />}
      </div>
    </Card>
  );
}
