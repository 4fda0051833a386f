"""The routes of live delivery. Documented in docs/live.md."""

from chatsystem.api.routing import route
from live.views import ApplicationEvents, ChatEvents, TicketEvents, TicketViewSet

urlpatterns = [
    *route("applications/<token:token>/tickets", TicketViewSet.as_view({"post": "create"}), "tickets"),
    *route("applications/<token:token>/events", ApplicationEvents.as_view(), "application_events"),
    *route("applications/<token:token>/chats/<number:number>/events", ChatEvents.as_view(), "chat_events"),
    *route("events", TicketEvents.as_view(), "ticket_events"),
]
