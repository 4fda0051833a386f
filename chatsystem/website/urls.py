from django.urls import path

from chatsystem.api.routing import route
from chatsystem.website import views

urlpatterns = [path("", views.landing, name="landing"), *route("demo", views.demo, "demo")]
