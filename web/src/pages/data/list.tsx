// All data files, folder by folder; the format of a file is asked for when its folder comes into sight.
import { useEffect, useRef, useState } from "react";
import { bytes, count, date } from "../../format";
import { usePreferences, useWords } from "../../preferences";
import { Link } from "../../router";
import { Await, Badge, Button, Card, Empty, Icon } from "../../ui";
import { useGet, useQuery } from "../../use";
import type { FileEntry, Files } from "./types";

const WORDS = {
  title: ["Data", "数据"],
  lead: ["What models are trained on: open a file to see its rows as a model sees them.", "训练模型用的数据：打开一个文件，像模型一样查看其中的每一行。"],
  search: ["Search files", "搜索文件"],
  none: ["No data files here", "这里没有数据文件"],
  how: ["Put .jsonl, .csv, .parquet or .txt files into the studio's folder, or start it with --data DIR.", "把 .jsonl、.csv、.parquet 或 .txt 文件放进工作室的文件夹，或用 --data DIR 启动。"],
  found: ["Nothing is called that", "没有这个名字的文件"],
  here: ["The studio's folder", "工作室的文件夹"],
  files: ["{count} files", "{count} 个文件"],
  file: ["1 file", "1 个文件"],
  all: ["Show all {count}", "显示全部 {count} 个"],
} as const;
const FIRST = 8;

export interface Folder {
  folder: string;
  files: FileEntry[];
}

/** Group files by folder, those whose name holds every word of the search. */
export function grouped(files: FileEntry[], search: string): Folder[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const folders = new Map<string, FileEntry[]>();
  for (const file of files) {
    if (!words.every((word) => file.name.toLowerCase().includes(word))) continue;
    folders.set(file.folder, [...(folders.get(file.folder) ?? []), file]);
  }
  return [...folders].map(([folder, found]) => ({ folder, files: found }));
}

export function FileList() {
  const t = useWords(WORDS);
  const [search, setSearch] = useQuery("q");
  const all = useGet<Files>("/studio/datasets");
  return (
    <div className="page data-list">
      <div className="page-head">
        <div>
          <h1>{t("title")}</h1>
          <p>{t("lead")}</p>
        </div>
        <label className="data-search">
          <Icon name="search" size={16} />
          <span className="unseen">{t("search")}</span>
          <input className="input" type="search" placeholder={t("search")} value={search} onChange={(event) => setSearch(event.target.value)} />
        </label>
      </div>
      <Await of={all}>
        {({ files }) => {
          const folders = grouped(files, search);
          if (!folders.length)
            return (
              <Empty icon="data" title={t(files.length ? "found" : "none")}>
                {!files.length && <p>{t("how")}</p>}
              </Empty>
            );
          return folders.map((one) => <FolderCard key={one.folder} {...one} open={search !== ""} />);
        }}
      </Await>
    </div>
  );
}

function FolderCard({ folder, files, open }: Folder & { open: boolean }) {
  const t = useWords(WORDS);
  const { language } = usePreferences();
  const [whole, setWhole] = useState(false);
  const [place, seen] = useSeen();
  const formats = useGet<Record<string, string>>(seen ? `/studio/datasets/formats?folder=${encodeURIComponent(folder)}` : null);
  const shown = whole || open ? files : files.slice(0, FIRST);
  const size = files.reduce((sum, file) => sum + file.bytes, 0);
  return (
    <Card
      title={<span className="data-folder">{folder || t("here")}</span>}
      actions={
        <span className="muted small number">
          {files.length === 1 ? t("file") : t("files", { count: count(files.length) })} · {bytes(size)}
        </span>
      }
    >
      <ul className="data-files" ref={place}>
        {shown.map((file) => (
          <li key={file.name}>
            <Link to={`/data/${encodeURIComponent(file.name)}`}>{file.name.slice(folder ? folder.length + 1 : 0)}</Link>
            <span className="data-format">{formats.data?.[file.name] && <Badge>{formats.data[file.name]}</Badge>}</span>
            <span className="muted small number">{bytes(file.bytes)}</span>
            <span className="muted small number data-date">{date(file.modified, language)}</span>
          </li>
        ))}
      </ul>
      {shown.length < files.length && (
        <Button small kind="quiet" onClick={() => setWhole(true)}>
          {t("all", { count: count(files.length) })}
        </Button>
      )}
    </Card>
  );
}

/** Tell whether a list has come into sight once. */
function useSeen() {
  const place = useRef<HTMLUListElement>(null);
  const [seen, setSeen] = useState(false);
  useEffect(() => {
    const observer = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && setSeen(true));
    observer.observe(place.current!);
    return () => observer.disconnect();
  }, []);
  return [place, seen] as const;
}
