// A line chart over uPlot: it fills its place, follows the theme, and a drag zooms.
import { useEffect, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { usePreferences } from "../preferences";

export interface Line {
  name: string;
  /** One for each x, null where there is none. */
  values: (number | null)[];
  /** A place in the palette, 1 to 8; by default the line's own place. */
  color?: number;
  faint?: boolean;
}

export function css(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** A value below the cursor, as the legend says it; nothing where no cursor is. */
function shown(_: uPlot, value: number | null): string {
  return value == null ? "" : String(Number.isInteger(value) ? value : Number(value.toPrecision(5)));
}

export function Chart({ x, lines, xLabel, yLabel, height = 260, log = false, title }: { x: number[]; lines: Line[]; xLabel: string; yLabel?: string; height?: number; log?: boolean; title: string }) {
  const ref = useRef<HTMLDivElement>(null);
  const { theme } = usePreferences();
  useEffect(() => {
    const place = ref.current!;
    const axis = { stroke: css("--ink-muted"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line"), width: 1 }, font: `12px ${css("--sans")}` };
    const plot = new uPlot(
      {
        width: Math.max(place.clientWidth, 200),
        height,
        cursor: { drag: { x: true, y: false } },
        scales: { x: { time: false }, y: { distr: log ? 3 : 1 } },
        axes: [{ ...axis, label: xLabel, labelFont: axis.font, labelSize: 22 }, { ...axis, size: 60, ...(yLabel ? { label: yLabel, labelFont: axis.font } : {}) }],
        series: [
          { label: xLabel, value: shown },
          ...lines.map((line, place) => ({
            label: line.name,
            value: shown,
            stroke: css(`--series-${line.color ?? (place % 8) + 1}`),
            width: line.faint ? 1 : 2,
            alpha: line.faint ? 0.35 : 1,
            points: { show: line.values.filter((value) => value !== null).length < 40 },
            spanGaps: true,
          })),
        ],
      },
      [x, ...lines.map((line) => line.values)] as uPlot.AlignedData,
      place,
    );
    const observer = new ResizeObserver(() => plot.setSize({ width: Math.max(place.clientWidth, 200), height }));
    observer.observe(place);
    return () => {
      observer.disconnect();
      plot.destroy();
    };
  }, [x, lines, xLabel, yLabel, height, log, theme]);
  return <div ref={ref} className="chart" role="img" aria-label={title} />;
}
