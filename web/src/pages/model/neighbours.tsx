// Neighbours: which tokens' embeddings point most nearly where one token's does.
import { useState } from "react";
import { useWords } from "../../preferences";
import { usePlace } from "../../router";
import { Await, Badge, Button, Card, Empty, Field } from "../../ui";
import { go } from "../../ui/reader";
import { visible } from "../../ui/token";
import { useGet } from "../../use";

const WORDS = {
  word: ["A word, or a part of one", "一个词，或词的一部分"],
  help: ["In most vocabularies a word behind a space is another token than one at the beginning.", "在多数词表中，空格后的词与开头的词是不同的词元。"],
  find: ["Find", "查找"],
  empty: ["Which tokens does the model hold alike? Name one.", "模型认为哪些词元相近？输入一个词元。"],
  pieces: ["The word is {count} tokens:", "此词由 {count} 个词元组成："],
  near: ["Nearest to “{token}”", "与“{token}”最近"],
  cosine: ["cosine", "余弦"],
  go: ["Neighbours of {token}", "{token} 的近邻"],
} as const;

interface Near {
  ids: number[];
  near: [id: number, cosine: number][];
  spelled: Record<string, string>;
}

export function NeighboursView({ model }: { model: string }) {
  const t = useWords(WORDS);
  const { query } = usePlace();
  const [word, id] = [query.get("word") ?? "", query.get("token") ?? ""];
  const [draft, setDraft] = useState(word);
  const asked = word || id;
  const found = useGet<Near>(asked ? `/studio/lens/neighbours?${new URLSearchParams({ model, ...(id ? { id } : { text: word }) })}` : null);
  return (
    <>
      <Card>
        <form
          className="stack"
          onSubmit={(event) => {
            event.preventDefault();
            go({ word: draft, token: null });
          }}
        >
          <Field label={t("word")} help={t("help")}>
            {(field) => <input id={field} className="input" maxLength={200} value={draft} onChange={(event) => setDraft(event.target.value)} />}
          </Field>
          <div className="row">
            <Button kind="primary" type="submit" disabled={!draft}>
              {t("find")}
            </Button>
          </div>
        </form>
      </Card>
      {!asked ? (
        <Card>
          <Empty icon="search" title={t("empty")} />
        </Card>
      ) : (
        <Await of={found}>
          {({ ids, near, spelled }) => (
            <Card title={t("near", { token: visible(spelled[ids[0]!]!) })} actions={<Badge>{t("cosine")}</Badge>} data-testid="neighbours">
              <div className="stack">
                {ids.length > 1 && (
                  <div className="row small">
                    {t("pieces", { count: ids.length })}
                    {ids.map((one, place) => (
                      <Button key={place} small aria-pressed={place === 0} onClick={() => go({ token: String(one) })}>
                        {visible(spelled[one]!)}
                      </Button>
                    ))}
                  </div>
                )}
                <ol className="near">
                  {near.map(([one, cosine]) => (
                    <li key={one}>
                      <button type="button" className="alternative" title={t("go", { token: visible(spelled[one]!) })} onClick={() => go({ token: String(one) })}>
                        <span className="fill" style={{ width: `${100 * Math.max(0, cosine)}%` }} />
                        <span className="text">{visible(spelled[one]!)}</span>
                        <span className="number">{cosine.toFixed(3)}</span>
                      </button>
                    </li>
                  ))}
                </ol>
              </div>
            </Card>
          )}
        </Await>
      )}
    </>
  );
}
