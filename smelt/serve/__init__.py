"""An OpenAI-compatible server over one model: `smelt serve`.

Reading order: `protocol` (what a request may hold), `prepare` (a request becomes prompts), `loop` (the engine in a
thread of its own), `answers` (what it wrote becomes JSON), `streaming` (the same as events), `app` (the routes),
`guard` (what stands before them), `run` (the process: sockets, signals, draining). It needs the extra `serve`.
"""
