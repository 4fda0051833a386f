from chats.views import ChatViewSet
from chatsystem.api.routing import route

urlpatterns = [
    *route("applications/<token:token>/chats", ChatViewSet.as_view({"get": "list", "post": "create"}), "chats"),
    *route(
        "applications/<token:token>/chats/<number:number>",
        ChatViewSet.as_view({"get": "retrieve", "patch": "partial_update"}),
        "chat",
    ),
]
