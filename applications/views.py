from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from applications.models import Application
from applications.selectors import get_application, list_applications, position_of
from applications.serializers import ApplicationSerializer
from applications.services import create_application, update_application
from chatsystem.api.authentication import require_admin_key
from chatsystem.api.idempotency import proxy_key, request_key
from chatsystem.api.pagination import CursorPage
from chatsystem.api.viewsets import EntityViewSet, created
from chatsystem.writelog.events import to_datetime


class ApplicationViewSet(EntityViewSet):
    serializer_class = ApplicationSerializer

    def list(self, request: Request) -> Response:
        """Lists all applications, newest last.

        The list ends before the oldest write that is not stored yet. On the last page `next` is null; request that
        page again to see later arrivals.
        """
        require_admin_key(request)
        page = CursorPage.of(request, "applications")
        found, more = list_applications(page.limit, page.after, page.before)
        links = page.links([position_of(application) for application in found], more)
        return Response({**links, "results": self.represent_all(found)})

    def create(self, request: Request) -> Response:
        """Creates an application.

        The response contains its token, which grants access to everything in it.
        """
        require_admin_key(request)
        name = self.validated(request)["name"]
        accepted = create_application(name, request_key(request))
        moment = to_datetime(accepted.arrival)
        application = Application(token=accepted.name, name=name, created_at=moment, last_request_time=moment)
        return created(request, self.represent(application), accepted)

    def retrieve(self, request: Request, token: str) -> Response:
        """Returns an application."""
        return Response(self.represent(get_application(token)))

    def partial_update(self, request: Request, token: str) -> Response:
        """Renames an application.

        Moves `last_request_time`, even if the name stays the same.
        """
        application = get_application(token)
        application.name = self.validated(request)["name"]
        accepted = update_application(token, application.name, proxy_key(request))
        application.last_request_time = to_datetime(accepted.arrival)
        return Response(self.represent(application))
