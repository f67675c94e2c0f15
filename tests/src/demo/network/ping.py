#!/usr/bin/python3
# Sends many requests to a redis server over one connection, then holds it: ping.py NAME COUNT. Prints its port once all are answered, and ends with its input.
import socket
import sys

name, count = sys.argv[1], int(sys.argv[2])
connection = socket.create_connection((name, 6379), timeout=10)
for _ in range(count):
    connection.sendall(b"PING\r\n")
    answer = connection.recv(64)
    assert answer == b"+PONG\r\n", answer
print(connection.getsockname()[1], flush=True)
sys.stdin.read()
