from chatsystem.api.routing import route
from messages_app.views import MessageViewSet

urlpatterns = [
    *route(
        "applications/<token:token>/chats/<number:chat_number>/messages",
        MessageViewSet.as_view({"get": "list", "post": "create"}),
        "messages",
    ),
    *route(
        "applications/<token:token>/chats/<number:chat_number>/messages/<number:number>",
        MessageViewSet.as_view({"get": "retrieve", "patch": "partial_update"}),
        "message",
    ),
]
