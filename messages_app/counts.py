"""The number of messages of a chat. Documented in docs/counts.md."""

from chats.models import Chat
from chatsystem.writelog.counts import ChildCount
from messages_app.models import Message

MESSAGES_COUNT = ChildCount(Chat, "messages_count", Message, "chat", token="application__token")
