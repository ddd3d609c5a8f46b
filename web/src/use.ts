// Hooks that every page uses: what a route answers, and what is kept in this browser or in the address.
import { useCallback, useEffect, useRef, useState } from "react";
import { get } from "./api";
import { navigate, usePlace } from "./router";

export interface Loaded<T> {
  data: T | null;
  error: Error | null;
  reload: () => void;
}

/** Get a route's answer, and again every `everySeconds`; data stays while it is asked again. A null path asks nothing. */
export function useGet<T>(path: string | null, everySeconds?: number): Loaded<T> {
  const [state, setState] = useState<{ path: string | null; data: T | null; error: Error | null }>({ path, data: null, error: null });
  const [round, setRound] = useState(0);
  useEffect(() => {
    if (path === null) return;
    const control = new AbortController();
    get<T>(path, control.signal).then(
      (data) => setState({ path, data, error: null }),
      (error: Error) => control.signal.aborted || setState((old) => ({ path, data: old.path === path ? old.data : null, error })),
    );
    const timer = everySeconds ? setTimeout(() => setRound((old) => old + 1), everySeconds * 1000) : undefined;
    return () => {
      control.abort();
      clearTimeout(timer);
    };
  }, [path, round, everySeconds]);
  const reload = useCallback(() => setRound((old) => old + 1), []);
  return state.path === path ? { data: state.data, error: state.error, reload } : { data: null, error: null, reload };
}

/** State that survives a reload, kept in this browser under a name. */
export function useKept<T>(name: string, initial: T): [T, (value: T) => void] {
  const [value, setValue] = useState<T>(() => {
    const kept = localStorage.getItem(`smelt.${name}`);
    return kept === null ? initial : (JSON.parse(kept) as T);
  });
  const set = useCallback(
    (next: T) => {
      localStorage.setItem(`smelt.${name}`, JSON.stringify(next));
      setValue(next);
    },
    [name],
  );
  return [value, set];
}

/** State that is part of the address, so that it survives a reload and can be sent to somebody. */
export function useQuery(name: string, initial = ""): [string, (value: string) => void] {
  const place = usePlace();
  const set = useCallback(
    (value: string) => {
      const query = new URLSearchParams(location.search);
      if (value === initial) query.delete(name);
      else query.set(name, value);
      navigate(location.pathname + (query.size ? `?${query}` : ""), { replace: true });
    },
    [name, initial],
  );
  return [place.query.get(name) ?? initial, set];
}

/** Do something that a person asked for, one at a time; tell whether it is under way, and what went wrong. */
export function useAction<A extends unknown[]>(work: (...given: A) => Promise<void>) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Error | null>(null);
  const latest = useRef(work);
  latest.current = work;
  const under = useRef(false);
  const run = useCallback(async (...given: A) => {
    if (under.current) return;
    under.current = true;
    setBusy(true);
    setError(null);
    try {
      await latest.current(...given);
    } catch (caught) {
      setError(caught as Error);
    } finally {
      under.current = false;
      setBusy(false);
    }
  }, []);
  return { run, busy, error, clear: () => setError(null) };
}
