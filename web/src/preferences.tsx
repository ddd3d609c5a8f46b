// What a person prefers: the language and the theme; both survive a reload, and follow the browser until chosen.
import { createContext, useCallback, useContext, useEffect, useMemo, type ReactNode } from "react";
import { useKept } from "./use";

export type Language = "en" | "zh";
export type Theme = "light" | "dark" | "system";

interface Preferred {
  language: Language;
  setLanguage: (language: Language) => void;
  theme: Theme;
  setTheme: (theme: Theme) => void;
}

const Context = createContext<Preferred | null>(null);

export function Preferences({ children }: { children: ReactNode }) {
  const [language, setLanguage] = useKept<Language>("language", navigator.language.startsWith("zh") ? "zh" : "en");
  const [theme, setTheme] = useKept<Theme>("theme", "system");
  useEffect(() => {
    document.documentElement.lang = language;
  }, [language]);
  useEffect(() => {
    const asked = window.matchMedia("(prefers-color-scheme: dark)");
    const apply = () => {
      document.documentElement.dataset.theme = theme === "system" ? (asked.matches ? "dark" : "light") : theme;
    };
    apply();
    asked.addEventListener("change", apply);
    return () => asked.removeEventListener("change", apply);
  }, [theme]);
  const value = useMemo(() => ({ language, setLanguage, theme, setTheme }), [language, setLanguage, theme, setTheme]);
  return <Context.Provider value={value}>{children}</Context.Provider>;
}

export function usePreferences(): Preferred {
  return useContext(Context)!;
}

/** Words of a page: each in English and Chinese side by side; `{name}` stands for a value. */
export type Words = Record<string, readonly [en: string, zh: string]>;

/** Return what says a word in the chosen language: `t("found", { count: 3 })`. */
export function useWords<W extends Words>(words: W): (key: keyof W, values?: Record<string, string | number>) => string {
  const { language } = usePreferences();
  return useCallback(
    (key, values = {}) => {
      const text: string = words[key]![language === "en" ? 0 : 1];
      return text.replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? ""));
    },
    [words, language],
  );
}
