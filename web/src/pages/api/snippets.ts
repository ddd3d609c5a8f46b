// Texts to paste: the same request with curl, OpenAI's Python package and LangChain, true for this studio as it is now.

export type Tool = "curl" | "openai" | "langchain";

export interface Asked {
  /** Where the API is: http://127.0.0.1:8420/v1 */
  url: string;
  model: string;
  /** Whether the model was taught to chat; else its text is continued. */
  chat: boolean;
  /** Whether a key has to be sent. */
  locked: boolean;
}

const QUESTION = "Say hello in one sentence.";
const START = "Once upon a time";
const NO_KEY = "none needed";

/** Quote a text for a POSIX shell: it's -> 'it'\''s' */
export function shell(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** Quote a text for Python, whose strings escape what JSON's do. */
const python = JSON.stringify;

export function snippet(tool: Tool, asked: Asked): string {
  return { curl, openai, langchain }[tool](asked);
}

function curl({ url, model, chat, locked }: Asked): string {
  const body = chat ? { model, messages: [{ role: "user", content: QUESTION }], max_tokens: 64 } : { model, prompt: START, max_tokens: 64 };
  const lines = [`curl -s ${shell(`${url}/${chat ? "chat/completions" : "completions"}`)}`, `-H 'Content-Type: application/json'`];
  if (locked) lines.push(`-H "Authorization: Bearer $SMELT_API_KEY"`);
  lines.push(`-d ${shell(JSON.stringify(body, null, 2))}`);
  return lines.join(" \\\n  ");
}

function openai({ url, model, chat, locked }: Asked): string {
  const ask = chat
    ? `answer = client.chat.completions.create(
    model=${python(model)},
    messages=[{"role": "user", "content": ${python(QUESTION)}}],
    max_tokens=64,
)
print(answer.choices[0].message.content)`
    : `answer = client.completions.create(model=${python(model)}, prompt=${python(START)}, max_tokens=64)
print(answer.choices[0].text)`;
  return `${locked ? "import os\n\n" : ""}from openai import OpenAI

client = OpenAI(base_url=${python(url)}, api_key=${key(locked)})
${ask}`;
}

function langchain({ url, model, chat, locked }: Asked): string {
  const kind = chat ? "ChatOpenAI" : "OpenAI";
  return `${locked ? "import os\n\n" : ""}from langchain_openai import ${kind}

model = ${kind}(model=${python(model)}, base_url=${python(url)}, api_key=${key(locked)}, max_tokens=64)
print(model.invoke(${python(chat ? QUESTION : START)})${chat ? ".content" : ""})`;
}

function key(locked: boolean): string {
  return locked ? `os.environ["SMELT_API_KEY"]` : python(NO_KEY);
}
