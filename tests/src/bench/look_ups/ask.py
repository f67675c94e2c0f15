#!/usr/bin/python3
# Asks libc for names, one after the other: ask.py NAME... Prints for each the milliseconds that the answer took, or `none`.
import socket
import sys
import time

for name in sys.argv[1:]:
    began = time.monotonic()
    try:
        socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        print("none", flush=True)
        continue
    print((time.monotonic() - began) * 1000, flush=True)
