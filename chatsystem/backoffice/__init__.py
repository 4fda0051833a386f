"""The admin: the base of all pages, the write log's pages, and operations. Documented in docs/operations.md."""
