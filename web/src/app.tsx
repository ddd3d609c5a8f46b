// The frame around every page: menu, language, theme, and what is shown where a page is missing or fails.
import { Component, useEffect, useState, type ComponentType, type ReactNode } from "react";
import { ApiError, get, send } from "./api";
import { load, loaded, PAGES, type Page } from "./pages";
import { usePreferences, useWords } from "./preferences";
import { Link, usePlace } from "./router";
import { Button, Empty, Failed, Field, Icon, Loading } from "./ui";
import { useAction } from "./use";

const WORDS = {
  menu: ["Menu", "菜单"],
  pages: ["Pages", "页面"],
  skip: ["Skip to the content", "跳到内容"],
  dark: ["Dark theme", "深色主题"],
  light: ["Light theme", "浅色主题"],
  language: ["中文", "English"],
  missing: ["There is no such page", "没有这个页面"],
  home: ["Go home", "回到主页"],
  locked: ["This studio needs a key", "此工作室需要密钥"],
  key: ["API key", "API 密钥"],
  open: ["Open", "打开"],
} as const;

export function App() {
  const { parts } = usePlace();
  const [open, setOpen] = useState(false);
  const { language } = usePreferences();
  const t = useWords(WORDS);
  const page = PAGES.find((one) => one.path === (parts[0] ?? ""));
  useEffect(() => setOpen(false), [page]);
  useEffect(() => void (page && load(page).catch(() => null)), [page]); // while the gate asks; Body tells what fails
  useEffect(() => {
    document.title = page?.path ? `${page.title[language === "en" ? 0 : 1]} · smelt` : "smelt";
  }, [page, language]);
  return (
    <div className="shell" data-menu={open ? "open" : "closed"}>
      <a className="skip" href="#content">
        {t("skip")}
      </a>
      <header className="top">
        <Button kind="quiet" icon={open ? "close" : "menu"} label={t("menu")} aria-expanded={open} onClick={() => setOpen(!open)} />
        <Link to="/" className="brand">
          <Mark /> smelt
        </Link>
      </header>
      <aside className="side">
        <Link to="/" className="brand">
          <Mark /> smelt
        </Link>
        <Menu />
        <Switches />
      </aside>
      <main id="content" tabIndex={-1}>
        <Gate>
          <Guarded key={parts[0] ?? ""}>
            {page ? (
              <Body page={page} />
            ) : (
              <Empty icon="search" title={t("missing")}>
                <Link to="/" className="button">
                  {t("home")}
                </Link>
              </Empty>
            )}
          </Guarded>
        </Gate>
      </main>
    </div>
  );
}

/** A page, as soon as its scripts are here. (React's `lazy` would wait 300 ms before it replaces what is shown meanwhile.) */
function Body({ page }: { page: Page }) {
  const [found, setFound] = useState<{ Shown: ComponentType | null; error: Error | null }>(() => ({ Shown: loaded(page), error: null }));
  useEffect(() => {
    if (!found.Shown) load(page).then((Shown) => setFound({ Shown, error: null }), (error: Error) => setFound({ Shown: null, error }));
  }, [page, found.Shown]);
  if (found.error) throw found.error;
  return found.Shown ? <found.Shown /> : <Loading />;
}

function Menu() {
  const { parts } = usePlace();
  const { language } = usePreferences();
  const t = useWords(WORDS);
  return (
    <nav aria-label={t("pages")}>
      <ul>
        {PAGES.map((page) => (
          <li key={page.path}>
            <Link to={`/${page.path}`} aria-current={(parts[0] ?? "") === page.path ? "page" : undefined}>
              <Icon name={page.icon} /> {page.title[language === "en" ? 0 : 1]}
            </Link>
          </li>
        ))}
      </ul>
    </nav>
  );
}

function Switches() {
  const { language, setLanguage, setTheme } = usePreferences();
  const t = useWords(WORDS);
  const [dark, setDark] = useState(() => document.documentElement.dataset.theme === "dark");
  useEffect(() => {
    const observer = new MutationObserver(() => setDark(document.documentElement.dataset.theme === "dark"));
    observer.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    setDark(document.documentElement.dataset.theme === "dark");
    return () => observer.disconnect();
  }, []);
  return (
    <div className="row switches">
      <Button kind="quiet" icon={dark ? "sun" : "moon"} label={t(dark ? "light" : "dark")} onClick={() => setTheme(dark ? "light" : "dark")} />
      <Button kind="quiet" lang={language === "en" ? "zh" : "en"} onClick={() => setLanguage(language === "en" ? "zh" : "en")}>
        {t("language")}
      </Button>
    </div>
  );
}

/** Ask for a key where the server wants one, and for nothing where it does not. */
function Gate({ children }: { children: ReactNode }) {
  const [state, setState] = useState<"asking" | "open" | "locked">("asking");
  const [key, setKey] = useState("");
  const t = useWords(WORDS);
  useEffect(() => {
    get("/studio/session").then(
      () => setState("open"),
      (error: Error) => setState(error instanceof ApiError && (error.status === 401 || error.status === 403) ? "locked" : "open"),
    );
  }, []);
  const enter = useAction(async () => {
    await send("POST", "/studio/session", { key });
    setState("open");
  });
  if (state === "asking") return <Loading />;
  if (state === "open") return children;
  return (
    <form
      className="card stack gate"
      onSubmit={(event) => {
        event.preventDefault();
        void enter.run();
      }}
    >
      <h1>{t("locked")}</h1>
      <Field label={t("key")}>{(id) => <input id={id} className="input" type="password" autoComplete="off" value={key} onChange={(event) => setKey(event.target.value)} />}</Field>
      {enter.error && <Failed error={enter.error} />}
      <Button kind="primary" type="submit" disabled={!key || enter.busy}>
        {t("open")}
      </Button>
    </form>
  );
}

/** Show what went wrong in a page instead of nothing; the menu goes on to work. */
class Guarded extends Component<{ children: ReactNode }, { error: Error | null }> {
  state = { error: null as Error | null };

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  render() {
    return this.state.error ? <Failed error={this.state.error} retry={() => this.setState({ error: null })} /> : this.props.children;
  }
}

function Mark() {
  return (
    <svg width="22" height="22" viewBox="0 0 24 24" aria-hidden="true">
      <path d="M4 5h16l-2.500 9a5.700 5.700 0 0 1-11 0L4 5Z" fill="var(--accent)" />
      <path d="M12 19.500v2M8.500 21.500h7" stroke="var(--accent)" strokeWidth="2" strokeLinecap="round" />
      <path d="M8.500 9.500c1.500-1.500 2.500 1 4 0s2-1.500 3-.5" stroke="var(--surface)" strokeWidth="1.600" fill="none" strokeLinecap="round" />
    </svg>
  );
}
