#!/usr/bin/python3
# Resolves a name, prints the address, waits for a line, and only then connects; prints who answered and how many tries that took.
import http.client
import socket
import sys

address = socket.getaddrinfo(sys.argv[1], 80, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
print(address, flush=True)
sys.stdin.readline()
tries = 0
while True:
    tries += 1
    try:
        connection = http.client.HTTPConnection(address, 80, timeout=5)
        connection.request("GET", "/")
        print(connection.getresponse().read().decode().strip(), tries, flush=True)
        break
    except ConnectionError:
        # The flow reached the instance in the moment of its death.
        continue
