// A chart of many curves, each with points of its own along x: uPlot makes axes and cursor, the lines are drawn here.
// (uPlot's own lines share one x; 200 runs of 300 points would be a table of 60,000 rows by 200 columns, mostly empty.)
import { useEffect, useRef, useState } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { usePreferences } from "../../preferences";
import { css } from "../../ui/chart";
import { short } from "../../format";
import { nearest, value, type Points } from "./data";

export interface PlotLine {
  name: string;
  points: Points;
  /** A place in the palette, 1 to 8. */
  color: number;
  kind: "line" | "faint" | "dots";
}

export interface Span {
  from: number;
  to: number;
}

interface Hit {
  left: number;
  top: number;
  line: PlotLine;
  place: number;
}

const DOT = 3.5;

export function Plot({ lines, xLabel, title, height = 340, logX, logY, onZoom }: { lines: PlotLine[]; xLabel: string; title: string; height?: number; logX: boolean; logY: boolean; onZoom: (span: Span) => void }) {
  const ref = useRef<HTMLDivElement>(null);
  const zoom = useRef(onZoom);
  zoom.current = onZoom;
  const { theme } = usePreferences();
  const [hit, setHit] = useState<Hit | null>(null);
  useEffect(() => {
    const place = ref.current!;
    const plot = new uPlot(options(lines, Math.max(place.clientWidth, 200), height, xLabel, logX, logY, setHit, (span) => zoom.current(span)), corners(lines, logX, logY), place);
    const observer = new ResizeObserver(() => plot.setSize({ width: Math.max(place.clientWidth, 200), height }));
    observer.observe(place);
    return () => {
      observer.disconnect();
      plot.destroy();
      setHit(null);
    };
  }, [lines, xLabel, height, logX, logY, theme]);
  return (
    <div className="plot">
      <div ref={ref} role="img" aria-label={title} data-testid="plot" />
      {hit && (
        <div className="plot-hit" style={{ left: hit.left, top: hit.top }} data-side={hit.left > (ref.current?.clientWidth ?? 0) / 2 ? "left" : "right"}>
          <strong>{hit.line.name}</strong>
          <span className="number">
            {xLabel} {value(hit.line.points.x[hit.place])} · {value(hit.line.points.y[hit.place])}
          </span>
        </div>
      )}
    </div>
  );
}

/** The two corners that hold all points; on a logarithmic axis only what is above zero can be drawn. */
export function corners(lines: readonly PlotLine[], logX: boolean, logY: boolean): [[number, number], [number, number]] {
  const [x, y] = [extent(lines.map((line) => line.points.x), logX), extent(lines.map((line) => line.points.y), logY)];
  return [x, y];
}

function extent(parts: readonly number[][], log: boolean): [number, number] {
  let [least, largest] = [Infinity, -Infinity];
  for (const part of parts)
    for (const one of part) {
      if (log && one <= 0) continue;
      if (one < least) least = one;
      if (one > largest) largest = one;
    }
  return least <= largest ? [least, largest] : [log ? 1 : 0, log ? 10 : 1];
}

function options(lines: PlotLine[], width: number, height: number, xLabel: string, logX: boolean, logY: boolean, onHit: (hit: Hit | null) => void, onZoom: (span: Span) => void): uPlot.Options {
  const axis = { stroke: css("--ink-muted"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line"), width: 1 }, font: `12px ${css("--sans")}` };
  const named = (_: uPlot, splits: (number | null)[]) => splits.map((one) => (one === null ? "" : short(one)));
  const widened = (_: uPlot, low: number, high: number): [number, number] => {
    const room = low === high ? Math.abs(low) * 0.1 || 1 : (high - low) * 0.04;
    return logY ? [low / 1.05, high * 1.05] : [low - room, high + room];
  };
  const straight = (_: uPlot, low: number, high: number): [number, number] => (low === high ? (logX ? [low / 2, high * 2] : [low - 1, high + 1]) : [low, high]);
  return {
    width,
    height,
    legend: { show: false },
    cursor: { drag: { x: true, y: false, setScale: false }, points: { show: false } },
    scales: { x: { time: false, distr: logX ? 3 : 1, range: straight }, y: { distr: logY ? 3 : 1, range: widened } },
    axes: [{ ...axis, label: xLabel, labelFont: axis.font, labelSize: 22, values: named }, { ...axis, size: 60, values: logY ? named : undefined! }],
    series: [{}, { paths: () => null, points: { show: false } }],
    hooks: {
      draw: [(plot) => draw(plot, lines, logX, logY)],
      setCursor: [(plot) => onHit(under(plot, lines))],
      setSelect: [
        (plot) => {
          const { left, width } = plot.select;
          if (width > 4) onZoom({ from: plot.posToVal(left, "x"), to: plot.posToVal(left + width, "x") });
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        },
      ],
    },
  };
}

function draw(plot: uPlot, lines: readonly PlotLine[], logX: boolean, logY: boolean): void {
  const { ctx, bbox } = plot;
  const ratio = uPlot.pxRatio;
  const palette = Array.from({ length: 8 }, (_, place) => css(`--series-${place + 1}`));
  let drawn = 0;
  ctx.save();
  ctx.beginPath();
  const room = (DOT + 1) * ratio; // for half a dot at the edge
  ctx.rect(bbox.left - room, bbox.top, bbox.width + 2 * room, bbox.height);
  ctx.clip();
  ctx.lineJoin = "round";
  for (const { points, color, kind } of [...lines].sort((one, other) => ORDER[one.kind] - ORDER[other.kind])) {
    ctx.strokeStyle = ctx.fillStyle = palette[color - 1]!;
    ctx.globalAlpha = kind === "faint" ? 0.28 : 1;
    ctx.lineWidth = (kind === "faint" ? 1 : lines.length > 40 ? 1 : 1.75) * ratio;
    ctx.beginPath();
    for (let place = 0; place < points.x.length; place += 1) {
      const [x, y] = [points.x[place]!, points.y[place]!];
      if ((logX && x <= 0) || (logY && y <= 0)) continue;
      const [left, top] = [plot.valToPos(x, "x", true), plot.valToPos(y, "y", true)];
      if (kind === "dots" || points.x.length === 1) {
        ctx.moveTo(left + DOT * ratio, top);
        ctx.arc(left, top, DOT * ratio, 0, 2 * Math.PI);
      } else ctx.lineTo(left, top);
      drawn += 1;
    }
    if (kind === "dots" || points.x.length === 1) ctx.fill();
    else ctx.stroke();
  }
  ctx.restore();
  plot.root.parentElement?.setAttribute("data-points", String(drawn));
  plot.root.parentElement?.setAttribute("data-lines", String(lines.length));
}

const ORDER = { faint: 0, line: 1, dots: 2 } as const;
const REACH = 30; // pixels around a point in which it is under the cursor

/** The point under the cursor: on each curve the nearest along x, and of those the nearest of all. */
function under(plot: uPlot, lines: readonly PlotLine[]): Hit | null {
  const { left = -1, top = -1 } = plot.cursor;
  if (left < 0 || top < 0) return null;
  const x = plot.posToVal(left, "x");
  let found: Hit | null = null;
  let least = REACH;
  for (const line of lines) {
    if (line.kind === "faint" || line.points.x.length === 0) continue;
    const place = nearest(line.points.x, x);
    const at = { left: plot.valToPos(line.points.x[place]!, "x"), top: plot.valToPos(line.points.y[place]!, "y") };
    const far = Math.hypot((at.left - left) / 2, at.top - top);
    if (far < least) {
      least = far;
      found = { line, place, left: at.left + plot.over.offsetLeft, top: at.top + plot.over.offsetTop };
    }
  }
  return found;
}
