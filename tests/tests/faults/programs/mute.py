#!/usr/bin/python3
# Listens on TCP and UDP and answers nothing: connections to it stay half-open once its queue is full.
import signal
import socket
import sys

held = []
for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
    server = socket.socket(socket.AF_INET6, kind)
    server.bind(("::", int(sys.argv[1])))
    if kind == socket.SOCK_STREAM:
        server.listen(0)
    held.append(server)
signal.pause()
