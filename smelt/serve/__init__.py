"""An OpenAI-compatible server over one model: `smelt serve`.

Reading order: `protocol` (what a request may hold), `prepare` (a request becomes prompts), `loop` (the engine in a
thread of its own), `answers` (what it wrote becomes JSON), `streaming` (the same as events), `app` (the routes),
`guard` and `keys` (what stands before them), `run` (the process: sockets, signals, draining); `responses`,
`response_events` and `kept` are another form of chat, `embeddings` makes vectors, `store` is the database. It needs the
extra `serve`.
"""
