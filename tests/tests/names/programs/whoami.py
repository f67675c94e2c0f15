#!/usr/bin/python3
# Tells whoever asks, over TCP and UDP on PORT of both families, its host's name; ends at once while a file `gone` lies beside it.
import os, socket, sys, threading

if os.path.exists(os.path.join(os.path.dirname(__file__), "gone")):
    sys.exit(1)
port, name = int(sys.argv[1]), socket.gethostname().encode()


def datagrams():
    asked = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    asked.bind(("::", port))
    while True:
        asked.sendto(name, asked.recvfrom(100)[1])


threading.Thread(target=datagrams, daemon=True).start()
listening = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    connection = listening.accept()[0]
    connection.sendall(name)
    connection.close()
