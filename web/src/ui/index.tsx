// The parts that pages are made of.
import { useEffect, useId, useRef, useState, type ButtonHTMLAttributes, type ReactNode } from "react";
import { useWords } from "../preferences";
import type { Loaded } from "../use";
import { Icon, type IconName } from "./icons";

export { Icon, type IconName } from "./icons";

const WORDS = {
  loading: ["Loading", "正在加载"],
  retry: ["Try again", "重试"],
  close: ["Close", "关闭"],
} as const;

interface ButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  kind?: "primary" | "danger" | "quiet";
  small?: boolean;
  icon?: IconName;
  /** What a button without text does; it becomes its name and its tooltip. */
  label?: string;
}

export function Button({ kind, small, icon, label, children, className, ...rest }: ButtonProps) {
  const classes = ["button", kind, small && "small", icon && !children && "icon", className].filter(Boolean).join(" ");
  return (
    <button type="button" {...rest} className={classes} aria-label={label} title={label}>
      {icon && <Icon name={icon} size={small ? 15 : 18} />}
      {children}
    </button>
  );
}

export function Card({ title, actions, children, className = "", ...rest }: { title?: ReactNode; actions?: ReactNode; children: ReactNode; className?: string; "data-testid"?: string }) {
  return (
    <section {...rest} className={`card ${className}`}>
      {(title || actions) && (
        <header>
          {title && <h2>{title}</h2>}
          {actions && <div className="row">{actions}</div>}
        </header>
      )}
      {children}
    </section>
  );
}

/** A label, what it names (which gets the id), help below, and what is wrong with the value. */
export function Field({ label, value, help, problem, children }: { label: ReactNode; value?: ReactNode; help?: ReactNode; problem?: string | null | undefined; children: (id: string) => ReactNode }) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>
        {label}
        {value !== undefined && <output>{value}</output>}
      </label>
      {children(id)}
      {help && <span className="muted small">{help}</span>}
      {problem && (
        <span className="problem" role="alert">
          {problem}
        </span>
      )}
    </div>
  );
}

export function Slider({ label, value, min, max, step, onChange, shown, help }: { label: string; value: number; min: number; max: number; step: number; onChange: (value: number) => void; shown?: string; help?: string }) {
  return (
    <Field label={label} value={shown ?? String(value)} help={help}>
      {(id) => <input id={id} type="range" min={min} max={max} step={step} value={value} onChange={(event) => onChange(Number(event.target.value))} />}
    </Field>
  );
}

export function Badge({ kind = "", children }: { kind?: "" | "good" | "warn" | "bad" | "info" | "accent"; children: ReactNode }) {
  return <span className={`badge ${kind}`}>{children}</span>;
}

export function Notice({ kind = "", children, action }: { kind?: "" | "good" | "warn" | "bad"; children: ReactNode; action?: ReactNode }) {
  return (
    <div className={`notice ${kind}`} role={kind === "bad" ? "alert" : "status"}>
      <span>{children}</span>
      {action}
    </div>
  );
}

export function Empty({ icon, title, children }: { icon: IconName; title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <Icon name={icon} size={32} />
      <h2>{title}</h2>
      {children}
    </div>
  );
}

export function Loading() {
  const t = useWords(WORDS);
  return (
    <div className="loading" role="status">
      <span className="spinner" />
      <span className="unseen">{t("loading")}</span>
    </div>
  );
}

export function Failed({ error, retry }: { error: Error; retry?: () => void }) {
  const t = useWords(WORDS);
  return (
    <Notice kind="bad" action={retry && <Button small onClick={retry}>{t("retry")}</Button>}>
      {error.message}
    </Notice>
  );
}

/** What was loaded, or that it loads, or why it could not; data that is there stays when a later request fails. */
export function Await<T>({ of, children }: { of: Loaded<T>; children: (data: T) => ReactNode }) {
  if (of.data === null) return of.error ? <Failed error={of.error} retry={of.reload} /> : <Loading />;
  return (
    <>
      {of.error && <Failed error={of.error} retry={of.reload} />}
      {children(of.data)}
    </>
  );
}

export function Tabs<K extends string>({ tabs, value, onChange, label }: { tabs: Record<K, string>; value: K; onChange: (value: K) => void; label: string }) {
  const names = Object.keys(tabs) as K[];
  const move = (by: number) => onChange(names[(names.indexOf(value) + by + names.length) % names.length]!);
  return (
    <div className="tabs" role="tablist" aria-label={label} onKeyDown={(event) => (event.key === "ArrowRight" ? move(1) : event.key === "ArrowLeft" && move(-1))}>
      {names.map((name) => (
        <button key={name} type="button" role="tab" aria-selected={name === value} tabIndex={name === value ? 0 : -1} onClick={() => onChange(name)}>
          {tabs[name]}
        </button>
      ))}
    </div>
  );
}

/** A window above the page; Escape and a click beside it close it. */
export function Dialog({ title, onClose, children }: { title: string; onClose: () => void; children: ReactNode }) {
  const t = useWords(WORDS);
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => ref.current?.showModal?.(), []);
  return (
    <dialog ref={ref} aria-label={title} onClose={onClose} onClick={(event) => event.target === ref.current && onClose()}>
      <div className="stack">
        <div className="row" style={{ justifyContent: "space-between" }}>
          <h2>{title}</h2>
          <Button kind="quiet" small icon="close" label={t("close")} onClick={onClose} />
        </div>
        {children}
      </div>
    </dialog>
  );
}

export function Bar({ share, label }: { share: number; label: string }) {
  const percent = Math.round(100 * Math.min(1, Math.max(0, share)));
  return (
    <div className="bar" role="progressbar" aria-valuemin={0} aria-valuemax={100} aria-valuenow={percent} aria-label={label}>
      <span style={{ width: `${percent}%` }} />
    </div>
  );
}

/** Copy a text; a check mark says for a moment that it was done. */
export function CopyButton({ text, label }: { text: string; label: string }) {
  const [done, setDone] = useState(false);
  useEffect(() => {
    if (!done) return;
    const timer = setTimeout(() => setDone(false), 1500);
    return () => clearTimeout(timer);
  }, [done]);
  const copy = () => void navigator.clipboard.writeText(text).then(() => setDone(true));
  return <Button kind="quiet" small icon={done ? "check" : "copy"} label={label} onClick={copy} />;
}
