"""The straightforward way, which the product is measured against. Documented in docs/benchmarks.md.

The same endpoints, on the same tables: `INCR` gives a message its number, a Celery task for each message stores it with
`Model.save()`, and django-elasticsearch-dsl indexes it as it is saved. Where two ways are common, this is the faster
one. What is lost when one of its processes dies is another matter.
"""
