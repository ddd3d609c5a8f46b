// A run's report: Markdown that can do nothing, with the pictures that lie beside it and no others.
import { Markdown } from "../../ui/markdown";

const PICTURE = /^!\[([^\]]*)\]\(([\w.-]+\.(?:png|jpe?g))\)[ \t]*$/;

export type Part = { text: string } | { picture: string; name: string };

/** Cut a report at the lines that are a picture of its own folder. */
export function partsOf(report: string): Part[] {
  const parts: Part[] = [];
  let text: string[] = [];
  const close = () => {
    if (text.some((line) => line.trim())) parts.push({ text: text.join("\n") });
    text = [];
  };
  for (const line of report.split("\n")) {
    const found = PICTURE.exec(line);
    if (!found) text.push(line);
    else {
      close();
      parts.push({ picture: found[2]!, name: found[1]! });
    }
  }
  close();
  return parts;
}

export default function Report({ run, text }: { run: string; text: string }) {
  return (
    <div className="stack runs-report" data-testid="report">
      {partsOf(text).map((part, place) =>
        "text" in part ? <Markdown key={place} text={part.text} /> : <img key={place} alt={part.name} src={`/studio/runs/picture?name=${encodeURIComponent(run)}&file=${encodeURIComponent(part.picture)}`} />,
      )}
    </div>
  );
}
