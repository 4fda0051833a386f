from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from applications.intake import create_application, update_application
from applications.models import Application
from applications.pagination import ApplicationPage
from applications.selectors import get_application
from applications.serializers import ApplicationSerializer
from chatsystem.api.access import require_admin_key
from chatsystem.api.idempotency import proxy_key, request_key
from chatsystem.api.links import child
from chatsystem.api.views import EntityViewSet, created
from chatsystem.writelog.arrival import to_datetime


class ApplicationViewSet(EntityViewSet):
    serializer_class = ApplicationSerializer

    def list(self, request: Request) -> Response:
        require_admin_key(request)
        return Response(ApplicationPage.of(request).answer(self.represent_all))

    def create(self, request: Request) -> Response:
        require_admin_key(request)
        name = self.validated(request)["name"]
        accepted = create_application(name, request_key(request))
        moment = to_datetime(accepted.arrival)
        application = Application(token=accepted.name, name=name, created_at=moment, last_request_time=moment)
        return created(self.represent(application), accepted, child(request, accepted.name))

    def retrieve(self, request: Request, token: str) -> Response:
        return Response(self.represent(get_application(token)))

    def partial_update(self, request: Request, token: str) -> Response:
        application = get_application(token)
        application.name = self.validated(request)["name"]
        accepted = update_application(token, application.name, proxy_key(request))
        application.last_request_time = to_datetime(accepted.arrival)
        return Response(self.represent(application))
