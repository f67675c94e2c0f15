#!/usr/bin/python3
# Many threads that resolve one name for both families at once and connect to every address; prints what came of it.
import json
import socket
import sys
import threading
import time

THREADS = 8
name, port, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
lock = threading.Lock()
result = {"v4": 0, "v6": 0, "failed": 0, "slowest_ms": 0.0}


def count(key):
    with lock:
        result[key] += 1


def work():
    for _ in range(rounds):
        began = time.monotonic()
        try:
            addresses = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        except OSError:
            addresses = []
            count("failed")
        took = (time.monotonic() - began) * 1000
        with lock:
            result["slowest_ms"] = max(result["slowest_ms"], took)
        for family, kind, protocol, _, address in addresses:
            try:
                with socket.socket(family, kind, protocol) as connection:
                    connection.connect(address)
                count("v4" if family == socket.AF_INET else "v6")
            except OSError:
                count("failed")


threads = [threading.Thread(target=work) for _ in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(result))
