"""Hands connections that ask for live events over to the live process, so that both have one port.

The web process sends the socket itself with the bytes that it has read (SCM_RIGHTS, unix(7)). From then on the client
talks to the live process alone: nothing is copied, no thread waits, and a restart of the web processes ends no stream.
docs/decisions.md says why.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator

from django.conf import settings

#: The path of events: of an application, of a chat, or of a ticket. Its groups are the token and the chat's number.
EVENTS_PATH = re.compile(r"/(?:applications/([0-9a-f]{32})/(?:chats/([1-9][0-9]{0,18})/)?)?events/?")
#: A request for events. Any other method, and anything malformed, is answered by Django.
REQUEST = re.compile(rb"GET %b[? ]" % EVENTS_PATH.pattern.encode())
#: Comes first: the number of bytes that follow.
LENGTH = struct.Struct("!I")
#: Bytes of a request that the live process accepts: every head that gunicorn's limits allow is smaller.
MAX_REQUEST = 1024 * 1024


def is_for_the_live_process(request: bytes | bytearray) -> bool:
    return REQUEST.match(request) is not None


def hand_over(client: socket.socket, request: bytes | bytearray) -> bool:
    """Sends a connection and the request that was read from it. Returns False if no live process takes it.

    Never waits. A live process that restarts finds the connection in its queue: the socket belongs to its gunicorn's
    master. Each hand-over has a connection of its own, so it never goes to a process that is about to end.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as live:
        live.setblocking(False)
        message = LENGTH.pack(len(request)) + request
        try:
            live.connect(str(settings.DATA_DIR.live_socket))
            # The live process ignores a message that is incomplete, so the client is answered only once.
            return socket.send_fds(live, [message], [client.fileno()]) == len(message)
        except OSError:
            return False


class Parcel:
    """A hand-over on its way in. The live process reads it as its bytes arrive."""

    def __init__(self, sender: socket.socket) -> None:
        self.sender = sender
        self.data = bytearray()
        self.descriptors: list[int] = []

    def receive(self) -> bool:
        """Reads what is there, without waiting. Returns whether the sender has finished."""
        try:
            piece, descriptors, _, _ = socket.recv_fds(self.sender, MAX_REQUEST, 1)
        except BlockingIOError:
            return False
        except OSError:
            return True
        self.descriptors += descriptors
        self.data += piece
        return not piece or len(self.data) > MAX_REQUEST

    def contents(self) -> Iterator[tuple[socket.socket, bytes]]:
        """Yields the connection and the request, or nothing if the parcel is incomplete. Closes everything else."""
        self.sender.close()
        sockets = [socket.socket(fileno=descriptor) for descriptor in self.descriptors]
        request = bytes(self.data[LENGTH.size :])
        if len(sockets) == 1 and len(self.data) >= LENGTH.size and LENGTH.unpack_from(self.data)[0] == len(request):
            yield sockets[0], request
        else:
            for each in sockets:
                each.close()
