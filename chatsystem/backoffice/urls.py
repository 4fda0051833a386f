from django.urls import path

from chatsystem.backoffice import operations

app_name = "operations"

urlpatterns = [
    path("", operations.page, name="page"),
    path("snapshot", operations.snapshot_as_json, name="snapshot"),
    path("<slug:name>", operations.start, name="start"),
]
