// Links that save runs as files: every step as CSV or JSON, and a report as Markdown.
import { useWords } from "../../preferences";
import { Icon } from "../../ui";
import { joinNames } from "./data";
import { WORDS } from "./words";

export function Exports({ names }: { names: readonly string[] }) {
  const t = useWords(WORDS);
  if (names.length === 0) return null;
  const address = `/studio/runs/export?runs=${encodeURIComponent(joinNames(names))}`;
  return (
    <div className="row runs-exports">
      {(["md", "csv", "json"] as const).map((form) => (
        <a key={form} className="button small" href={`${address}&form=${form}`} download data-testid={`export-${form}`}>
          <Icon name="download" size={15} /> {t(`export_${form}`)}
        </a>
      ))}
    </div>
  );
}
