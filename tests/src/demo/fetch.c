/* An ordinary old client: gethostbyname, connect, request. `fetch NAME` prints addresses, `fetch NAME PORT` a body. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int print_addresses(const struct hostent *host)
{
	char text[INET_ADDRSTRLEN];

	for (char **address = host->h_addr_list; *address; address++)
		puts(inet_ntop(AF_INET, *address, text, sizeof(text)));
	return 0;
}

static int print_body(const struct hostent *host, const char *name, const char *port)
{
	struct sockaddr_in server = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };
	char buffer[4096], *body;
	size_t length = 0;
	ssize_t got;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	memcpy(&server.sin_addr, host->h_addr_list[0], sizeof(server.sin_addr));
	if (fd < 0 || connect(fd, (struct sockaddr *)&server, sizeof(server))) {
		perror("connect");
		return 3;
	}
	dprintf(fd, "GET / HTTP/1.0\r\nHost: %s\r\n\r\n", name);
	while ((got = read(fd, buffer + length, sizeof(buffer) - 1 - length)) > 0)
		length += got;
	buffer[length] = 0;
	body = strstr(buffer, "\r\n\r\n");
	if (got < 0 || !body) {
		fprintf(stderr, "no answer\n");
		return 4;
	}
	fputs(body + 4, stdout);
	return 0;
}

int main(int argc, char **argv)
{
	struct hostent *host;

	if (argc < 2) {
		fprintf(stderr, "usage: fetch NAME [PORT]\n");
		return 1;
	}
	host = gethostbyname(argv[1]);
	if (!host) {
		fprintf(stderr, "%s: %s\n", argv[1], hstrerror(h_errno));
		return 2;
	}
	return argc < 3 ? print_addresses(host) : print_body(host, argv[1], argv[2]);
}
