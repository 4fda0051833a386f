"""The number of chats of an application. Documented in docs/counts.md."""

from applications.models import Application
from chats.models import Chat
from chatsystem.writelog.counts import ChildCount

CHATS_COUNT = ChildCount(Application, "chats_count", Chat, "application", token="token")
