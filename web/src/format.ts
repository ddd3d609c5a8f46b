// Numbers, sizes and times for people.

export function count(value: number): string {
  return value.toLocaleString("en-US");
}

/** 3013632 -> "3.0M" */
export function short(value: number): string {
  for (const [size, unit] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]] as const)
    if (Math.abs(value) >= size) return `${(value / size).toFixed(1)}${unit}`;
  return Number.isInteger(value) ? String(value) : value.toPrecision(3);
}

export function bytes(value: number): string {
  for (const [size, unit] of [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]] as const)
    if (value >= size) return `${(value / size).toFixed(1)} ${unit}`;
  return `${value} B`;
}

/** 3725 -> "1:02:05" */
export function clock(seconds: number): string {
  const whole = Math.round(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const shown = parts[0] ? parts : parts.slice(1);
  return shown.map((part, place) => (place ? String(part).padStart(2, "0") : String(part))).join(":");
}

const FORMATS = new Map<string, Intl.DateTimeFormat>(); // to make one takes a millisecond, which a long list would feel

/** Seconds since 1970 -> a date and time in the reader's own form. */
export function date(seconds: number, language: string): string {
  if (!FORMATS.has(language)) FORMATS.set(language, new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }));
  return FORMATS.get(language)!.format(seconds * 1000);
}

/** 0.4271 -> "42.7%", 0.00012 -> "0.012%" */
export function percent(share: number): string {
  const value = 100 * share;
  if (value === 0) return "0%";
  if (value < 0.001) return `${value.toExponential(1)}%`;
  return `${value >= 10 ? value.toFixed(1) : value.toPrecision(2)}%`;
}
