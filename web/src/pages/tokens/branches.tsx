// The branches that were written of a text: kept in this browser, and each an address of its own.
import { useWords } from "../../preferences";
import { Link, usePlace } from "../../router";
import { Button, Card } from "../../ui";
import type { Lens } from "./words";

const WORDS = {
  title: ["Branches", "分支"],
  text: ["The text as it is", "原文"],
  branch: ["At {place}: {token}", "在 {place}：{token}"],
  forget: ["Forget this branch", "删除此分支"],
} as const;

export const MOST_KEPT = 60;

export interface Branch {
  id: string;
  model: string;
  text: string;
  chat: string;
  /** Where it leaves its text, and the token that it begins with. */
  at: number;
  token: string;
  ids: string;
}

export function Branches({ lens, branches, onChange }: { lens: Lens; branches: Branch[]; onChange: (branches: Branch[]) => void }) {
  const t = useWords(WORDS);
  const { query } = usePlace();
  const [text, chat, ids] = [query.get("text") ?? "", query.get("chat") ?? "", query.get("ids")];
  const own = branches.filter((one) => one.model === lens.model && one.text === text && one.chat === chat);
  const address = (words: Record<string, string>) => `/tokens?${new URLSearchParams({ model: lens.model, ...(text && { text }), ...(chat && { chat }), ...words })}`;
  if (own.length === 0) return null;
  return (
    <Card title={t("title")} data-testid="branches">
      <ul className="branches">
        {text && (
          <li>
            <Link to={address({})} aria-current={ids ? undefined : "page"}>
              {t("text")}
            </Link>
          </li>
        )}
        {own.map((one) => (
          <li key={one.id}>
            <Link to={address({ ids: one.ids, from: String(one.at), at: String(one.at) })} aria-current={ids === one.ids ? "page" : undefined}>
              {t("branch", { place: one.at, token: one.token })}
            </Link>
            <Button small kind="quiet" icon="trash" label={t("forget")} onClick={() => onChange(branches.filter((other) => other.id !== one.id))} />
          </li>
        ))}
      </ul>
    </Card>
  );
}
