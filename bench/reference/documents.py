from __future__ import annotations

from django_elasticsearch_dsl import Document, fields
from django_elasticsearch_dsl.registries import registry

from messages_app.models import Message


@registry.register_document
class MessageDocument(Document):
    """Indexed by django-elasticsearch-dsl's receiver of post_save."""

    body = fields.TextField()

    class Index:
        name = "reference-messages"
        settings = {"number_of_shards": 1, "number_of_replicas": 0}

    class Django:
        model = Message
        fields = ["number", "created_at", "last_request_time"]
