// A map of one head: rows read columns. It is drawn on a canvas; the arrow keys and the pointer choose a cell.
import { useEffect, useRef, type KeyboardEvent, type PointerEvent } from "react";
import { usePreferences } from "../../preferences";

const COLORS = 256;

/** The theme's scale from nothing to all as 256 colours; null where there is no canvas. */
function palette(): Uint8ClampedArray | null {
  const strip = document.createElement("canvas");
  [strip.width, strip.height] = [COLORS, 1];
  const drawing = strip.getContext("2d");
  if (!drawing) return null;
  const scale = drawing.createLinearGradient(0, 0, COLORS, 0);
  const theme = getComputedStyle(document.documentElement);
  for (let step = 0; step <= 6; step++) scale.addColorStop(step / 6, theme.getPropertyValue(`--heat-${step}`));
  drawing.fillStyle = scale;
  drawing.fillRect(0, 0, COLORS, 1);
  return drawing.getImageData(0, 0, COLORS, 1).data;
}

const palettes = new Map<string, Uint8ClampedArray | null>();

function paletteOf(theme: string): Uint8ClampedArray | null {
  if (!palettes.has(theme)) palettes.set(theme, palette());
  return palettes.get(theme)!;
}

/** Paint one head's weights, a pixel each. The eye sees roots better: small weights would all look like none. */
function paint(canvas: HTMLCanvasElement, weights: Float32Array, size: number): void {
  const colors = paletteOf(document.documentElement.dataset.theme ?? "");
  const drawing = canvas.getContext("2d");
  if (!colors || !drawing) return;
  [canvas.width, canvas.height] = [size, size];
  const image = drawing.createImageData(size, size);
  for (let place = 0; place < size * size; place++) {
    const from = 4 * Math.round((COLORS - 1) * Math.sqrt(Math.min(1, weights[place]!)));
    for (let channel = 0; channel < 3; channel++) image.data[4 * place + channel] = colors[from + channel]!;
    image.data[4 * place + 3] = place % size > Math.floor(place / size) ? 60 : 255;
  }
  drawing.putImageData(image, 0, 0);
}

export function usePainted(weights: Float32Array, size: number) {
  const ref = useRef<HTMLCanvasElement>(null);
  const { theme } = usePreferences();
  useEffect(() => paint(ref.current!, weights, size), [weights, size, theme]);
  return ref;
}

export function Small({ weights, size }: { weights: Float32Array; size: number }) {
  return <canvas ref={usePainted(weights, size)} className="map-canvas" aria-hidden="true" />;
}

export interface Cell {
  row: number;
  column: number;
}

export function HeadMap({ weights, size, cell, label, onCell }: { weights: Float32Array; size: number; cell: Cell; label: string; onCell: (cell: Cell, kept: boolean) => void }) {
  const canvas = usePainted(weights, size);
  const at = (event: PointerEvent<HTMLElement>): Cell => {
    const box = event.currentTarget.getBoundingClientRect();
    const place = (offset: number, length: number) => Math.min(size - 1, Math.max(0, Math.floor((offset / length) * size)));
    return { row: place(event.clientY - box.top, box.height), column: place(event.clientX - box.left, box.width) };
  };
  const move = (event: KeyboardEvent) => {
    const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [0, 0];
    if (!down && !right) return;
    event.preventDefault();
    const within = (place: number) => Math.min(size - 1, Math.max(0, place));
    onCell({ row: within(cell.row + down!), column: within(cell.column + right!) }, true);
  };
  const percent = (place: number) => `${(100 * place) / size}%`;
  return (
    <div className="map" role="application" tabIndex={0} aria-label={label} onKeyDown={move} onPointerMove={(event) => onCell(at(event), false)} onPointerDown={(event) => onCell(at(event), true)} data-testid="map">
      <canvas ref={canvas} className="map-canvas" aria-hidden="true" />
      <span className="map-row" style={{ top: percent(cell.row), height: percent(1) }} />
      <span className="map-cell" style={{ top: percent(cell.row), left: percent(cell.column), width: percent(1), height: percent(1) }} />
    </div>
  );
}
