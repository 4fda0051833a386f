from applications.views import ApplicationViewSet
from chatsystem.api.routing import route

urlpatterns = [
    *route("applications", ApplicationViewSet.as_view({"get": "list", "post": "create"}), "applications"),
    *route(
        "applications/<token:token>",
        ApplicationViewSet.as_view({"get": "retrieve", "patch": "partial_update"}),
        "application",
    ),
]
