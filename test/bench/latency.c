/*
 * latency.c
 *		Queues a message every so many milliseconds, and prints when.
 *
 * latency COUNT MILLISECONDS CONNINFO
 *
 * Prints a line for each: the message's number and the wall clock's time, in
 * seconds, just before the statement was sent.  Its text is "latency N".
 */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int
main(int argc, char **argv)
{
	PGconn	   *conn;
	int			count;
	struct timespec pause;

	if (argc != 4)
		return 2;
	count = atoi(argv[1]);
	pause.tv_sec = atoi(argv[2]) / 1000;
	pause.tv_nsec = atoi(argv[2]) % 1000 * 1000000L;
	conn = PQconnectdb(argv[3]);
	for (int i = 0; i < count; i++)
	{
		char		sql[128];
		double		sent;
		PGresult   *result;

		nanosleep(&pause, NULL);
		snprintf(sql, sizeof(sql),
				 "SELECT stripe_sync.notify('place%d', 'latency %d')",
				 i % 100 + 1, i);
		sent = now();
		result = PQexec(conn, sql);
		if (PQresultStatus(result) != PGRES_TUPLES_OK)
		{
			fprintf(stderr, "latency: %s", PQerrorMessage(conn));
			return 1;
		}
		PQclear(result);
		printf("%d %.6f\n", i, sent);
	}
	PQfinish(conn);
	return 0;
}
