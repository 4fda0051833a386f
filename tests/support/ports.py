"""Ports for servers that tests start."""

from __future__ import annotations

import socket

#: Keep the ports of `free_port` until this process ends.
_reservations: list[socket.socket] = []


def free_port() -> int:
    """Returns a TCP port that nobody listens on. Until this process ends, nobody else is given it.

    Otherwise another process of the tests could take it before the server that it is meant for, or after that one was
    killed. A server has to set SO_REUSEADDR, as all of them do.
    """
    reservation = reserve_port()
    _reservations.append(reservation)
    port: int = reservation.getsockname()[1]
    return port


def reserve_port() -> socket.socket:
    """Returns a socket that keeps a TCP port until it is closed: no connection and no other server gets it.

    A server that sets SO_REUSEADDR listens on it meanwhile.
    """
    reservation = socket.socket()
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.bind(("127.0.0.1", 0))
    return reservation
