# Answers each connection with the address that it was delivered to.
import socket

PORT = 5000

server = socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    connection, _ = server.accept()
    with connection:
        connection.sendall(connection.getsockname()[0].encode())
