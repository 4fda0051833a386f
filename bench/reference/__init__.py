"""The reference implementation: the straightforward way to build the product. Documented in docs/benchmarks.md.

It has the same endpoints and tables. `INCR` assigns a message number, one Celery task per message stores it with
`Model.save()`, and django-elasticsearch-dsl indexes it on save. Where two ways are common, it uses the faster one.
Unlike the product, it loses data when one of its processes dies.
"""
