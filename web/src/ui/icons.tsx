// Icons, drawn on a grid of 24 with a line of 1.75.
const PATHS = {
  home: "M4 11.5 12 4l8 7.5M6 10v9h4.5v-5h3v5H18v-9",
  chat: "M5 5h14a1.5 1.5 0 0 1 1.5 1.5v9A1.5 1.5 0 0 1 19 17h-7l-4.5 3.5V17H5a1.5 1.5 0 0 1-1.5-1.5v-9A1.5 1.5 0 0 1 5 5Z",
  arena: "M12 4v16M7 20h10M4 9.5 7 5l3 4.5a3 3 0 0 1-6 0ZM14 9.5 17 5l3 4.5a3 3 0 0 1-6 0ZM7 5h10",
  tokens: "M4 6h6v5H4zM13 6h7v5h-7zM4 14h9v5H4zM16 14h4v5h-4z",
  lens: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13ZM15.5 15.5 20 20M8 10.5h5M10.5 8v5",
  train: "M12 3c1 3-3 4.5-3 8.5a3 3 0 0 0 6 0c0-1-.4-1.8-.8-2.5 2.6 1.2 3.8 3.4 3.8 5.5a6 6 0 0 1-12 0C6 9.5 11 8 12 3Z",
  runs: "M4 19V5M4 19h16M7.5 15l3.5-5 3 3 5-7",
  data: "M12 8c4 0 7-1.1 7-2.5S16 3 12 3 5 4.1 5 5.5 8 8 12 8ZM5 5.5v13C5 19.9 8 21 12 21s7-1.1 7-2.5v-13M5 12c0 1.4 3 2.5 7 2.5s7-1.1 7-2.5",
  models: "M12 3 4 7v10l8 4 8-4V7l-8-4ZM4 7l8 4 8-4M12 11v10",
  api: "M8.5 7 4 12l4.5 5M15.5 7 20 12l-4.5 5M13.5 5l-3 14",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6 6 18",
  plus: "M12 5v14M5 12h14",
  up: "M7 11v9H4v-9h3Zm0 0 4-8a2 2 0 0 1 2 2v4h5.5a1.5 1.5 0 0 1 1.5 1.8l-1.4 7A1.5 1.5 0 0 1 17 20H7",
  down: "M17 13V4h3v9h-3Zm0 0-4 8a2 2 0 0 1-2-2v-4H5.5A1.5 1.5 0 0 1 4 13.200l1.400-7A1.500 1.500 0 0 1 7 4h10",
  copy: "M9 9h10v11H9zM5 15V4h10",
  edit: "M4 20h4L19 9l-4-4L4 16v4ZM13.500 6.500l4 4",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  redo: "M19 5v5h-5M19 10a7 7 0 1 0 .5 5",
  stop: "M7 7h10v10H7z",
  play: "M8 5l11 7-11 7V5Z",
  pause: "M8 5v14M16 5v14",
  send: "M5 12h14M13 6l6 6-6 6",
  left: "M14 6l-6 6 6 6",
  right: "M10 6l6 6-6 6",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM12 2.500v2M12 19.500v2M2.500 12h2M19.500 12h2M5.300 5.300l1.400 1.400M17.300 17.300l1.400 1.400M5.300 18.700l1.400-1.400M17.300 6.700l1.400-1.400",
  moon: "M20 14.500A8.500 8.500 0 0 1 9.500 4 8.500 8.500 0 1 0 20 14.500Z",
  settings: "M5 7h9M18 7h1M5 17h1M10 17h9M16 9.500a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5ZM8 19.500a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5Z",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  search: "M10.500 17a6.500 6.500 0 1 0 0-13 6.500 6.500 0 0 0 0 13ZM15.500 15.500 20 20",
  key: "M15 13a5 5 0 1 0-4.600-3L4 16.400V20h3.600v-2.400H10v-2.400h2.200L13.500 14",
  chats: "M8 6h12M8 12h12M8 18h12M4 6h.2M4 12h.2M4 18h.2",
  "down-arrow": "M12 5v14M6 13l6 6 6-6",
  check: "M5 12.500l4.500 4.500L19 7.500",
  warn: "M12 4 3 19.500h18L12 4ZM12 10v4M12 16.800v.2",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 18 }: { name: IconName; size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 24 24" fill="none" stroke="currentColor" strokeWidth="1.75" strokeLinecap="round" strokeLinejoin="round" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
