from __future__ import annotations

from datetime import datetime

from django.db.models import F

from bench.reference.celery import app
from chats.models import Chat
from messages_app.models import Message


@app.task
def store_message(chat_id: int, number: int, body: str, created_at: str) -> None:
    moment = datetime.fromisoformat(created_at)
    Message(chat_id=chat_id, number=number, body=body, created_at=moment, last_request_time=moment).save()
    Chat.objects.filter(pk=chat_id).update(messages_count=F("messages_count") + 1)
