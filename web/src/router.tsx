// Addresses: every view has its own, the browser's buttons work, and a link opens in a new tab like any other.
import { useMemo, useSyncExternalStore, type AnchorHTMLAttributes } from "react";

const CHANGED = "smelt-navigated";

function subscribe(listener: () => void): () => void {
  window.addEventListener("popstate", listener);
  window.addEventListener(CHANGED, listener);
  return () => {
    window.removeEventListener("popstate", listener);
    window.removeEventListener(CHANGED, listener);
  };
}

export function navigate(to: string, options: { replace?: boolean } = {}): void {
  if (to === location.pathname + location.search) return;
  history[options.replace ? "replaceState" : "pushState"](null, "", to);
  window.dispatchEvent(new Event(CHANGED));
}

export interface Place {
  path: string;
  parts: string[];
  query: URLSearchParams;
}

/** Where we are; `/runs/a%2Fb?x=step` has the parts "runs" and "a/b". */
export function usePlace(): Place {
  const address = useSyncExternalStore(subscribe, () => location.pathname + location.search);
  return useMemo(() => {
    const url = new URL(address, location.origin);
    const parts = url.pathname.split("/").filter(Boolean).map(decodeURIComponent);
    return { path: url.pathname, parts, query: url.searchParams };
  }, [address]);
}

export function Link({ to, ...rest }: { to: string } & AnchorHTMLAttributes<HTMLAnchorElement>) {
  return (
    <a
      {...rest}
      href={to}
      onClick={(event) => {
        rest.onClick?.(event);
        if (event.defaultPrevented || event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
        event.preventDefault();
        navigate(to);
      }}
    />
  );
}
