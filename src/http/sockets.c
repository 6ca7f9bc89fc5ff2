/*
 * sockets.c
 *		Waits for sockets and the latch together.
 *
 * A socket can't be removed from a WaitEventSet.  So the sockets are in an epoll
 * descriptor, which is in a WaitEventSet with the latch and the postmaster's
 * death.  Both are created once and exist as long as the process.
 *
 * Every descriptor is reserved by AcquireExternalFD(), so that the server's cache
 * of open files leaves room for it.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/latch.h"

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "base/compat.h"
#include "http/internal.h"

#define RESOLVER_FDS 8	  /* of names being resolved */
#define MAX_OPEN	 1024 /* sockets that sockets_reap() checks */

/* A socket that libcurl has opened; idle: a connection that is kept for reuse */
typedef struct OpenSocket
{
	int fd;
	bool idle;
} OpenSocket;

static OpenSocket opened[MAX_OPEN];
static int nopened = 0;
static int epoll_fd = -1;
static WaitEventSet *wait_set = NULL;
static int reserved = 0; /* descriptors, for connections and the resolver */

static void
epoll_make(void)
{
	if (!AcquireExternalFD())
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not reserve a file descriptor: %m"),
						errhint("Raise max_files_per_process.")));
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
	{
		int why = errno;

		ReleaseExternalFD();
		errno = why;
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not create epoll descriptor: %m")));
	}
}

static void
wait_set_make(void)
{
	WaitEventSet *made = compat_create_wait_event_set(3);

	AddWaitEventToSet(made, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(made, WL_SOCKET_READABLE, epoll_fd, NULL, NULL);
	if (IsUnderPostmaster)
		AddWaitEventToSet(made, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL,
						  NULL);
	wait_set = made;
}

void
sockets_setup(void)
{
	if (epoll_fd < 0)
		epoll_make();
	if (wait_set == NULL)
		wait_set_make();
	if (sockets_allowed() <= 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
			 errmsg("no file descriptors are left for connections"),
			 errhint(
				 "Raise max_files_per_process, or lower stripe_sync.max_connections.")));
}

/*
 * The number of connections that are allowed, for which descriptors are reserved;
 * 0 before sockets_setup().
 */
int
sockets_allowed(void)
{
	int wanted = guc_max_connections + RESOLVER_FDS;

	if (wait_set == NULL)
		return 0;
	while (reserved < wanted && AcquireExternalFD())
		reserved++;
	while (reserved > wanted)
	{
		ReleaseExternalFD();
		reserved--;
	}
	return Max(reserved - RESOLVER_FDS, 0);
}

static void
mark_idle(int fd, bool idle)
{
	for (int i = 0; i < nopened; i++)
		if (opened[i].fd == fd)
			opened[i].idle = idle;
}

/*
 * libcurl calls this function and the next three, so they raise no error.  If a
 * socket can't be watched, the transfer ends by its time-out.
 */
int
socket_make(int family, int type, int protocol)
{
	int fd = socket(family, type | SOCK_CLOEXEC, protocol);

	if (fd >= 0 && nopened < MAX_OPEN)
		opened[nopened++] = (OpenSocket){fd, false};
	return fd;
}

int
socket_close(void *user, int fd)
{
	for (int i = 0; i < nopened; i++)
		if (opened[i].fd == fd)
			opened[i--] = opened[--nopened];
	return close(fd);
}

void
socket_watch(int fd, bool reading, bool writing, bool known)
{
	struct epoll_event event = {.data.fd = fd};

	mark_idle(fd, false);
	event.events = (reading ? (uint32_t) EPOLLIN : 0) |
				   (writing ? (uint32_t) EPOLLOUT : 0);
	if (epoll_ctl(epoll_fd, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd,
				  &event) == 0)
		return;
	/* the descriptor was closed, or its number is in use again */
	if (errno == ENOENT)
		epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
	else if (errno == EEXIST)
		epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event);
}

void
socket_forget(int fd)
{
	struct epoll_event event = {0};

	mark_idle(fd, true);
	epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, &event);
}

/*
 * An idle connection that has data to read was probably closed by the peer.
 * libcurl mistakes TLS's close_notify for a live connection, and the next request
 * on it would fail.  So the data is read and the socket shut down, and libcurl
 * sees the end of the connection.  Returns true if there was any.
 */
bool
sockets_reap(void)
{
	bool any = false;

	for (int i = 0; i < nopened; i++)
	{
		struct pollfd ready = {.fd = opened[i].fd, .events = POLLIN};
		char unread[512];

		if (!opened[i].idle || poll(&ready, 1, 0) <= 0)
			continue;
		while (recv(ready.fd, unread, sizeof(unread), MSG_DONTWAIT) > 0)
			;
		shutdown(ready.fd, SHUT_RD);
		any = true;
	}
	return any;
}

/* The sockets that are ready now; returns their number. */
int
sockets_ready(SocketReady ready[SOCKETS_AT_ONCE])
{
	struct epoll_event events[SOCKETS_AT_ONCE];
	int n = epoll_wait(epoll_fd, events, SOCKETS_AT_ONCE, 0);

	for (int i = 0; i < n; i++)
	{
		ready[i].fd = events[i].data.fd;
		ready[i].readable = (events[i].events & EPOLLIN) != 0;
		ready[i].writable = (events[i].events & EPOLLOUT) != 0;
	}
	return n;
}

/* Returns true if the latch was set, and resets it. */
bool
sockets_wait(long timeout_ms, uint32 wait_event)
{
	WaitEvent events[3];
	bool latched = false;
	int n = WaitEventSetWait(wait_set, timeout_ms, events, lengthof(events),
							 wait_event);

	for (int i = 0; i < n; i++)
		latched |= (events[i].events & WL_LATCH_SET) != 0;
	if (latched)
		ResetLatch(MyLatch);
	return latched;
}

int64
clock_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/*
 * Block all signals while libcurl may start threads, which inherit the mask: the
 * server's handlers must run in its main thread.
 */
sigset_t
signals_block(void)
{
	sigset_t all;
	sigset_t before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	return before;
}

void
signals_restore(sigset_t before)
{
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}
