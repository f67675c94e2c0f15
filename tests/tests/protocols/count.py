# Calls count.matrix as often as told, one connection after the other; prints how often each server answered.
# Each server answers with its own address.
import collections
import socket
import sys

PORT = 5000
PATIENCE_S = 3

calls, family = int(sys.argv[1]), socket.AF_INET6 if sys.argv[2] == "6" else socket.AF_INET
[*_, address] = socket.getaddrinfo("count.matrix", PORT, family, socket.SOCK_STREAM)[0]
answers = collections.Counter()
for _ in range(calls):
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(PATIENCE_S)
        client.connect(address[:2])
        answers[client.recv(100).decode()] += 1
print(*sorted(answers.values()))
