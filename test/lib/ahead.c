/*
 * ahead.c
 *		Preloaded into a server, has its clock go STRIPE_SYNC_AHEAD seconds ahead.
 *
 * libfaketime shows the true time to a signal's handler that interrupts a wait,
 * so no statement that waits would ever be timed out.
 */
#define _GNU_SOURCE

#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t ahead;

__attribute__((constructor)) static void
ahead_init(void)
{
	const char *text = getenv("STRIPE_SYNC_AHEAD");

	ahead = text != NULL ? atoll(text) : 0;
}

int
clock_gettime(clockid_t clock, struct timespec *at)
{
	int status = syscall(SYS_clock_gettime, clock, at);

	if (status == 0 &&
		(clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		at->tv_sec += ahead;
	return status;
}

int
gettimeofday(struct timeval *restrict at, void *restrict zone)
{
	struct timespec now;
	int status = clock_gettime(CLOCK_REALTIME, &now);

	at->tv_sec = now.tv_sec;
	at->tv_usec = now.tv_nsec / 1000;
	return status;
}

time_t
time(time_t *at)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (at != NULL)
		*at = now.tv_sec;
	return now.tv_sec;
}
