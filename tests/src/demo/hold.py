#!/usr/bin/python3
# Opens one connection to each named host, sends so many requests over each, and holds them open until its input ends.
import http.client
import sys

count = int(sys.argv[1])
connections = [http.client.HTTPConnection(name, 80) for name in sys.argv[2:]]
for connection in connections:
    for _ in range(count):
        connection.request("GET", "/")
        connection.getresponse().read()
print(*(connection.sock.getsockname()[1] for connection in connections), flush=True)
sys.stdin.read()
