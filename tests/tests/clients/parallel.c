/* Many threads that resolve one name for both families at once and connect to every address; prints what came of it. */
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define THREADS 8

struct result {
	int v4, v6, failed;
	double slowest_ms;
};

static const char *name, *port;
static int rounds;

static double now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

static void connect_to(const struct addrinfo *address, struct result *result)
{
	int fd = socket(address->ai_family, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, address->ai_addr, address->ai_addrlen))
		result->failed++;
	else if (address->ai_family == AF_INET)
		result->v4++;
	else
		result->v6++;
	if (fd >= 0)
		close(fd);
}

static void *work(void *argument)
{
	struct result *result = argument;
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };

	for (int round = 0; round < rounds; round++) {
		struct addrinfo *list = NULL;
		double began = now_ms(), took;

		if (getaddrinfo(name, port, &hints, &list))
			result->failed++;
		took = now_ms() - began;
		if (took > result->slowest_ms)
			result->slowest_ms = took;
		for (struct addrinfo *it = list; it; it = it->ai_next)
			connect_to(it, result);
		if (list)
			freeaddrinfo(list);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct result results[THREADS] = { 0 }, sum = { 0 };
	pthread_t threads[THREADS];

	if (argc != 4) {
		fprintf(stderr, "usage: parallel NAME PORT ROUNDS\n");
		return 1;
	}
	name = argv[1];
	port = argv[2];
	rounds = atoi(argv[3]);
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, work, &results[i]))
			return 2;
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		sum.v4 += results[i].v4;
		sum.v6 += results[i].v6;
		sum.failed += results[i].failed;
		if (results[i].slowest_ms > sum.slowest_ms)
			sum.slowest_ms = results[i].slowest_ms;
	}
	printf("{\"v4\":%d,\"v6\":%d,\"failed\":%d,\"slowest_ms\":%.1f}\n", sum.v4, sum.v6, sum.failed,
	       sum.slowest_ms);
	return 0;
}
