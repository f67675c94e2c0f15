# Answers datagrams and connections; bound to no address, as most servers are.
import socket
import threading

PORT = 5000


def datagrams():
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.bind(("::", PORT))
    while True:
        data, client = server.recvfrom(2000)
        server.sendto(data, client)


def connections():
    server = socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        connection, _ = server.accept()
        connection.sendall(connection.recv(2000))
        connection.close()


threading.Thread(target=datagrams).start()
connections()
