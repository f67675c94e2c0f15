/* Datagrams from a great many ports, each of which is a flow.
 *   herd serve PORT      sends each datagram back
 *   herd call ADDR PORT  for each line "FIRST COUNT" asks from so many ports, from FIRST on, and says how
 *                        many were answered
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Fewer than an instance may have waiting for a decision. */
enum { BATCH = 64, TRIES = 25, PATIENCE_MS = 200 };

static int serve(int port)
{
	struct sockaddr_in own = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in peer;
	socklen_t len;
	char word[64];
	ssize_t size;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (fd < 0 || bind(fd, (void *)&own, sizeof(own)))
		return 1;
	for (;;) {
		len = sizeof(peer);
		size = recvfrom(fd, word, sizeof(word), 0, (void *)&peer, &len);
		if (size > 0)
			sendto(fd, word, size, 0, (void *)&peer, len);
	}
}

/* Another caller may use the same port towards another server at the same time. */
static int caller(const struct sockaddr_in *to, int port)
{
	int shared = 1;
	struct sockaddr_in own = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	if (fd >= 0 && !setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &shared, sizeof(shared)) &&
	    !bind(fd, (void *)&own, sizeof(own)) &&
	    !connect(fd, (const void *)to, sizeof(*to)))
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

/* A datagram that comes while a table is busy can be lost, as anywhere: it is sent again. */
static int answered(int fd)
{
	struct pollfd waiting = { .fd = fd, .events = POLLIN };
	char word[64];

	for (int i = 0; i < TRIES; i++) {
		if (poll(&waiting, 1, PATIENCE_MS) > 0 && recv(fd, word, sizeof(word), 0) > 0)
			return 1;
		send(fd, "x", 1, 0);
	}
	return 0;
}

static int call(const struct sockaddr_in *to, int first, int count)
{
	int fds[BATCH], good = 0;

	for (int begun = 0; begun < count; begun += BATCH) {
		int some = count - begun < BATCH ? count - begun : BATCH;

		for (int i = 0; i < some; i++) {
			fds[i] = caller(to, first + begun + i);
			if (fds[i] >= 0)
				send(fds[i], "x", 1, 0);
		}
		for (int i = 0; i < some; i++) {
			if (fds[i] < 0)
				continue;
			good += answered(fds[i]);
			close(fds[i]);
		}
	}
	return good;
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	int first, count;

	if (argc == 3 && !strcmp(argv[1], "serve"))
		return serve(atoi(argv[2]));
	if (argc != 4 || strcmp(argv[1], "call") || inet_pton(AF_INET, argv[2], &to.sin_addr) != 1)
		return 1;
	to.sin_port = htons(atoi(argv[3]));
	while (scanf("%d %d", &first, &count) == 2) {
		printf("%d\n", call(&to, first, count));
		fflush(stdout);
	}
	return 0;
}
