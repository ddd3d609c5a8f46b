// A text token by token, coloured by how it surprised the model; the line below a token is as thick as its shade is deep.
import { useRef, useState, type KeyboardEvent } from "react";
import { count, percent } from "../../format";
import { useWords } from "../../preferences";
import { visible, written } from "../../ui/token";
import { shade, SHADES, surprise, type Lens } from "./words";

const WORDS = {
  text: ["The text, token by token; arrow keys move", "逐词元显示的文本；方向键移动"],
  next: ["what comes next", "接下来"],
  legend: ["Bits", "比特"],
  first: ["the first token, which nothing came before", "第一个词元，前面没有内容"],
  bytes: ["a part of {text}", "{text} 的一部分"],
  rank: ["rank {rank}", "第 {rank} 位"],
  entropy: ["entropy {bits} bits", "熵 {bits} 比特"],
} as const;

export type Shading = "surprise" | "entropy";

/** The place after the last token is one, too: what would come next. */
export function Strip({ lens, at, from, by, onSelect }: { lens: Lens; at: number; from: number; by: Shading; onSelect: (place: number) => void }) {
  const t = useWords(WORDS);
  const [hovered, setHovered] = useState<{ place: number; left: number; top: number } | null>(null);
  const list = useRef<HTMLDivElement>(null);
  const move = (event: KeyboardEvent) => {
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: lens.ids.length }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const place = Math.min(lens.ids.length, Math.max(0, to));
    onSelect(place);
    (list.current?.children[place] as HTMLElement | undefined)?.focus();
  };
  const hover = (place: number) => (event: { currentTarget: HTMLElement }) => {
    const { offsetLeft, offsetTop, offsetHeight } = event.currentTarget;
    setHovered({ place, left: Math.min(offsetLeft, (list.current?.clientWidth ?? 0) - 220), top: offsetTop + offsetHeight + 4 });
  };
  return (
    <div className="strip-place">
      <div ref={list} className="strip" role="listbox" aria-label={t("text")} onKeyDown={move} onMouseLeave={() => setHovered(null)} data-testid="strip">
        {[...lens.tokens, null].map((token, place) => {
          const before = place > 0 ? lens.expected[place - 1]! : null;
          const bits = !before ? 0 : by === "entropy" || before.logprob === null ? before.entropy : surprise(before.logprob);
          const classes = ["token", !token && "next", token?.bytes && "part", token?.special && "special", place >= from && token && "made", place === from && "fork"];
          return (
            <span
              key={place}
              role="option"
              aria-selected={place === at}
              tabIndex={place === at ? 0 : -1}
              className={classes.filter(Boolean).join(" ")}
              data-shade={before && token ? shade(bits) : undefined}
              onClick={() => onSelect(place)}
              onMouseEnter={hover(place)}
            >
              {token ? written(token) : "＋"}
              {!token && <span className="unseen">{t("next")}</span>}
              {token?.text?.includes("\n") && <br />}
            </span>
          );
        })}
      </div>
      {hovered && <Tip lens={lens} {...hovered} />}
    </div>
  );
}

function Tip({ lens, place, left, top }: { lens: Lens; place: number; left: number; top: number }) {
  const t = useWords(WORDS);
  const token = lens.tokens[place];
  const expected = place > 0 ? lens.expected[place - 1]! : null;
  return (
    <div className="tip" aria-hidden="true" style={{ left: Math.max(0, left), top }} data-testid="tip">
      <strong>{token ? written(token) : t("next")}</strong>
      {token?.bytes && token.text && <span>{t("bytes", { text: token.text })}</span>}
      {!expected && <span>{t("first")}</span>}
      {expected && (
        <>
          <span className="number">
            {expected.logprob !== null && `${percent(Math.exp(expected.logprob))} · ${t("rank", { rank: count(expected.rank!) })} · `}
            {t("entropy", { bits: expected.entropy.toFixed(2) })}
          </span>
          <ol>
            {expected.top.slice(0, 5).map(([id, logprob]) => (
              <li key={id} className={id === token?.id ? "own" : ""}>
                <span>{visible(lens.spelled[id]!)}</span>
                <span className="number">{percent(Math.exp(logprob))}</span>
              </li>
            ))}
          </ol>
        </>
      )}
    </div>
  );
}

export function Legend() {
  const t = useWords(WORDS);
  return (
    <div className="legend small muted">
      {t("legend")}
      {[0, ...SHADES].map((from, number) => (
        <span key={from} className="token" data-shade={number}>
          {from}
          {number === SHADES.length && "+"}
        </span>
      ))}
    </div>
  );
}
