"""What the server must not forget: chats, votes, keys and stored responses, in SQLite or PostgreSQL.

Reading order: `tables` (what there is), `database` (how it is opened, written and brought up to date), then `chats`,
`votes`, `rounds`, `keys` and `responses`: plain functions over a `Store`, each one transaction. When one returns, what
it wrote is on the disk. Rows are named by the caller, so a write that is tried again, because nobody knows whether it
happened, is one write. It needs the extra `serve`.
"""
