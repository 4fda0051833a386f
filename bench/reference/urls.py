from django.urls import path

from bench.reference.views import Applications, Chats, Messages, empty

urlpatterns = [
    path("applications", Applications.as_view()),
    path("applications/<str:token>/chats", Chats.as_view()),
    path("applications/<str:token>/chats/<int:chat_number>/messages", Messages.as_view()),
    path("empty", empty),
]
