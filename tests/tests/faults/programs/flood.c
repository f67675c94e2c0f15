/* Opens TCP connections and sends datagrams from ever new ports, as fast as it can, until its input ends. */
#define _GNU_SOURCE
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 1000 };

static long tried, failed;

static void open_and_forget(const struct addrinfo *to)
{
	int fd;

	if (to->ai_socktype == SOCK_RAW)
		return;
	tried++;
	fd = socket(to->ai_family, to->ai_socktype | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		failed++;
		return;
	}
	connect(fd, to->ai_addr, to->ai_addrlen);
	if (to->ai_socktype == SOCK_DGRAM && send(fd, "x", 1, 0) != 1)
		failed++;
	/* Before the handshake is over, close() sends nothing: what is left is a SYN without a sender. */
	close(fd);
}

int main(int argc, char **argv)
{
	struct pollfd input = { .fd = 0, .events = POLLIN };
	struct addrinfo *list, hints = { .ai_family = AF_UNSPEC, .ai_flags = AI_NUMERICSERV };
	int begun = 0;

	if (argc != 3 || getaddrinfo(argv[1], argv[2], &hints, &list))
		return 1;
	do {
		const struct addrinfo *to = list;

		for (int i = 0; i < BATCH; i++) {
			open_and_forget(to);
			to = to->ai_next ? to->ai_next : list;
		}
		if (!begun) {
			begun = 1;
			puts("flooding");
			fflush(stdout);
		}
	} while (poll(&input, 1, 0) == 0);
	printf("%ld tried, %ld failed\n", tried, failed);
	return 0;
}
