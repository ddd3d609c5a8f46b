// The graph of where models come from, drawn by hand: each node is a link, so the keyboard and a new tab work as ever.
import { useEffect, useMemo, useRef } from "react";
import { count, short } from "../../format";
import { useWords } from "../../preferences";
import { Link } from "../../router";
import { fit, HEIGHT, layout, WIDTH } from "./layout";
import type { Graph, Model, Node } from "./types";
import { WORDS } from "./words";

const HEAD = 28;
const LETTERS = 20;
const LEAST_SHARE = 0.8; // of its full size, before it scrolls

export function addressOf(node: Node): string {
  if (node.kind === "model" || node.kind === "served") return `/models/${encodeURIComponent(node.of ?? node.id)}`;
  return `/models?at=${encodeURIComponent(node.id)}`;
}

export function GraphView({ graph, models, at }: { graph: Graph; models: Model[]; at?: string }) {
  const t = useWords(WORDS);
  const drawn = useMemo(() => layout(graph), [graph]);
  const byName = useMemo(() => new Map(models.map((model) => [model.name, model])), [models]);
  const width = drawn.width + 2;
  const scroll = useRef<HTMLDivElement>(null);
  useEffect(() => {
    scroll.current?.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  }, [at]);
  const heads = [t("data"), t("tokenizer"), t("base")];
  const note = (node: Node) => noteOf(node, byName.get(node.id), t);
  return (
    <div className="lineage-scroll" ref={scroll}>
      <svg className="lineage" role="group" aria-label={t("graph")} viewBox={`-1 ${-HEAD - 1} ${width} ${drawn.height + HEAD + 2}`} style={{ maxWidth: width, minWidth: LEAST_SHARE * width }}>
        {drawn.columns.map((column, place) =>
          column.depth > 3 && (drawn.columns[place - 1]?.depth ?? 0) >= 3 ? null : (
            <text key={column.x} className="lineage-head" x={column.x} y={-12}>
              {heads[column.depth] ?? t("derived")}
            </text>
          ),
        )}
        <g aria-hidden="true">
          {drawn.edges.map(({ edge, d }) => (
            <path key={`${edge.from} ${edge.to}`} d={d} className="lineage-edge" data-near={at !== undefined && (edge.from === at || edge.to === at)} data-exact={edge.exact} />
          ))}
        </g>
        {drawn.nodes.map(({ node, x, y }) => {
          const model = byName.get(node.id);
          const loaded = model?.loaded.some((one) => one.state === "ready") || node.kind === "served";
          return (
            <Link key={node.id} to={addressOf(node)} className={`lineage-node ${model?.adapter ? "adapter" : node.kind}`} aria-current={node.id === at || undefined} data-testid={`node-${node.id}`}>
              <rect x={x} y={y} width={WIDTH} height={HEIGHT} rx={8} />
              <rect className="mark" x={x} y={y + 10} width={4} height={HEIGHT - 20} rx={2} />
              <text className="label" x={x + 16} y={y + 23}>
                {fit(node.label, loaded ? LETTERS - 2 : LETTERS)}
              </text>
              <text className="note" x={x + 16} y={y + 41}>
                {fit(note(node), LETTERS + 4)}
              </text>
              {loaded && <circle cx={x + WIDTH - 14} cy={y + 18} r={4} />}
            </Link>
          );
        })}
      </svg>
    </div>
  );
}

function noteOf(node: Node, model: Model | undefined, t: (key: keyof typeof WORDS, values?: Record<string, string | number>) => string): string {
  switch (node.kind) {
    case "data":
      return node.files === 1 ? t("oneFile") : t("files", { count: count(node.files ?? 0) });
    case "tokenizer":
      return node.vocabulary ? t("tokens", { count: count(node.vocabulary) }) : (node.sha256?.slice(0, 8) ?? "");
    case "gone":
      return t("gone");
    case "served":
      return t("memory");
    case "model":
      return [node.note, model?.parameters ? short(model.parameters) : model?.fault ? t("damaged") : ""].filter(Boolean).join(" · ");
  }
}
