"""The admin: what the rooms' pages share, and the write log's own pages. Documented in docs/operations.md."""
