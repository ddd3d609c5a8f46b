// Requests to the studio's own server: JSON, errors in its own words, and streams of events.

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly code: string | null = null,
    readonly param: string | null = null,
  ) {
    super(message);
  }
}

async function failure(response: Response): Promise<ApiError> {
  const body = await response.json().catch(() => null);
  const error = body?.error ?? {};
  return new ApiError(response.status, error.message ?? response.statusText, error.code ?? null, error.param ?? null);
}

async function ask(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
  const sent: RequestInit = { method, signal: signal ?? null, headers: {} };
  if (body !== undefined) {
    sent.headers = { "content-type": "application/json" };
    sent.body = JSON.stringify(body);
  }
  let response: Response;
  try {
    response = await fetch(path, sent);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "The studio does not answer. Is `smelt studio` still running?", "offline");
  }
  if (!response.ok) throw await failure(response);
  return response;
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await ask("GET", path, undefined, signal)).json();
}

export async function send<T>(method: "POST" | "PUT" | "PATCH" | "DELETE", path: string, body: unknown = {}): Promise<T> {
  return (await ask(method, path, body)).json();
}

/** Yield what a route streams as `data: ` lines of JSON, until `[DONE]`; an error in the stream is thrown. */
export async function* events<T>(path: string, body: unknown, signal?: AbortSignal): AsyncGenerator<T> {
  const response = await ask("POST", path, body, signal);
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch((error: unknown) => {
      if (signal?.aborted) throw error;
      throw new ApiError(0, "The connection broke off.", "offline");
    });
    if (done) throw new ApiError(0, "The connection broke off.", "offline");
    rest += value;
    const parts = rest.split("\n\n");
    rest = parts.pop()!;
    for (const part of parts) {
      if (!part.startsWith("data: ")) continue;
      const data = part.slice("data: ".length);
      if (data === "[DONE]") return;
      const found = JSON.parse(data);
      if (found.error) throw new ApiError(500, found.error.message, found.error.code);
      yield found as T;
    }
  }
}

/** A name for something new, made here so that a request tried again is the same one. */
export function newId(): string {
  return crypto.randomUUID().replaceAll("-", "");
}
