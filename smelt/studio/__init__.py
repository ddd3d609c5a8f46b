"""The studio: one web application over the runs, checkpoints and data of this machine.

Reading order: `workspace` (what may be read and where), `pool` (the models that answer), `context` (what every page's
routes are given), `app` (how they become one application), then a module a page: plain routes under /studio, each of
which answers JSON. The pages themselves are TypeScript, in web/; what Vite makes of them is in `static`. It needs the
extra `serve`.
"""
