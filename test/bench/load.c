/*
 * load.c
 *		A load of webhook deliveries, or of the plain statements they are
 *		measured against, over libpq: one thread a connection, prepared
 *		statements, every transaction its own commit.
 *
 * load MODE CLIENTS COUNT FIRST TEMPLATE CONNINFO
 *
 * MODE is one of
 *	 receive	SELECT status FROM stripe_sync.receive($1, $2): new events
 *	 insert		INSERT INTO bare (id, payload) VALUES ($1, $2): the same bytes
 *	 redeliver	receive() of events that are stored
 *	 select		SELECT payload FROM bare WHERE id = $1
 *	 probe		SELECT id FROM bare WHERE id = $1
 *
 * Events are numbered FIRST to FIRST + COUNT - 1; they are built and signed
 * before the clock starts.  Prints "transactions seconds processor": the seconds
 * of the processor that the server processes used, 0 if the system doesn't say.
 */
#include <libpq-fe.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../src/inbox/signature.h"

#define SECRET "whsec_bench"

typedef struct Message
{
	char		id[32];
	char	   *payload;
	int			length;
	char		header[SIGNATURE_HEADER_SIZE];
} Message;

typedef struct Client
{
	pthread_t	thread;
	PGconn	   *conn;
	const Message *messages;
	int			count;
} Client;

static const char *mode;
static pthread_barrier_t start;

static const struct
{
	const char *mode;
	const char *sql;
}			statements[] = {
	{"receive", "SELECT status FROM stripe_sync.receive($1::text, $2::text)"},
	{"redeliver", "SELECT status FROM stripe_sync.receive($1::text, $2::text)"},
	{"insert", "INSERT INTO bare (id, payload) VALUES ($1, $2)"},
	{"select", "SELECT payload FROM bare WHERE id = $1"},
	{"probe", "SELECT id FROM bare WHERE id = $1"},
};

static void
die(const char *what, const char *why)
{
	fprintf(stderr, "load: %s: %s\n", what, why);
	exit(1);
}

static char *
read_file(const char *path)
{
	FILE	   *file = fopen(path, "r");
	char	   *text = malloc(1 << 20);
	size_t		length;

	if (file == NULL)
		die(path, "cannot be read");
	length = fread(text, 1, (1 << 20) - 1, file);
	text[length] = '\0';
	fclose(file);
	return text;
}

/* Digits in no order, for what Stripe makes at random. */
static unsigned long
scatter(unsigned long number)
{
	number = (number ^ (number >> 30)) * 0xbf58476d1ce4e5b9UL;
	number = (number ^ (number >> 27)) * 0x94d049bb133111ebUL;
	return number ^ (number >> 31);
}

/*
 * The template with every @N@ replaced by the number of the event, and every @R@
 * by digits made of it.
 */
static void
build(Message *message, const char *template, int number)
{
	static const SignatureSecret secret = {SECRET, sizeof(SECRET) - 1};
	char	   *out = malloc(strlen(template) * 3);
	char		digits[16];
	char		scattered[24];
	const char *at;

	message->payload = out;
	snprintf(digits, sizeof(digits), "%012d", number);
	snprintf(scattered, sizeof(scattered), "%016lx", scatter(number));
	while ((at = strchr(template, '@')) != NULL)
	{
		bool		known = (at[1] == 'N' || at[1] == 'R') && at[2] == '@';

		memcpy(out, template, at - template);
		out += at - template;
		out = stpcpy(out, !known ? "@" : at[1] == 'N' ? digits : scattered);
		template = at + (known ? 3 : 1);
	}
	out = stpcpy(out, template);
	message->length = out - message->payload;
	snprintf(message->id, sizeof(message->id), "evt_%s", digits);
	if (!signature_sign(message->payload, message->length, &secret, time(NULL), message->header))
		die("sign", "refused");
}

static void
check(PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);

	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
		die(mode, PQresultErrorMessage(result));
	if (strcmp(mode, "insert") != 0 && PQntuples(result) != 1)
		die(mode, "no row");
	if (strcmp(mode, "receive") == 0 && strcmp(PQgetvalue(result, 0, 0), "applied") != 0)
		die("receive", PQgetvalue(result, 0, 0));
	if (strcmp(mode, "redeliver") == 0 && strcmp(PQgetvalue(result, 0, 0), "duplicate") != 0)
		die("redeliver", PQgetvalue(result, 0, 0));
	PQclear(result);
}

static void *
run(void *arg)
{
	Client	   *client = arg;
	int			by_id = strcmp(mode, "select") == 0 || strcmp(mode, "probe") == 0;
	int			insert = strcmp(mode, "insert") == 0;

	pthread_barrier_wait(&start);
	for (int i = 0; i < client->count; i++)
	{
		const Message *message = &client->messages[i];
		const char *values[] = {
			by_id || insert ? message->id : message->payload,
			insert ? message->payload : message->header
		};

		check(PQexecPrepared(client->conn, "s", by_id ? 1 : 2, values, NULL, NULL, 0));
	}
	return NULL;
}

static void
open_client(Client *client, const char *conninfo)
{
	PGresult   *result;
	const char *sql = NULL;

	for (size_t i = 0; i < sizeof(statements) / sizeof(statements[0]); i++)
		if (strcmp(statements[i].mode, mode) == 0)
			sql = statements[i].sql;
	if (sql == NULL)
		die(mode, "unknown mode");
	client->conn = PQconnectdb(conninfo);
	if (PQstatus(client->conn) != CONNECTION_OK)
		die("connect", PQerrorMessage(client->conn));
	result = PQprepare(client->conn, "s", sql, 0, NULL);
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		die("prepare", PQresultErrorMessage(result));
	PQclear(result);
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* Seconds of the processor that the clients' server processes have used. */
static double
processor(const Client *clients, int nclients)
{
	double		sum = 0;

	for (int i = 0; i < nclients; i++)
	{
		char		path[64];
		unsigned long long used = 0;
		FILE	   *file;

		snprintf(path, sizeof(path), "/proc/%d/schedstat", PQbackendPID(clients[i].conn));
		file = fopen(path, "r");
		if (file == NULL)
			return 0;
		if (fscanf(file, "%llu", &used) != 1)
			used = 0;
		fclose(file);
		sum += used / 1e9;
	}
	return sum;
}

int
main(int argc, char **argv)
{
	int			nclients = argc == 7 ? atoi(argv[2]) : 0;
	int			count = argc == 7 ? atoi(argv[3]) : 0;
	Message    *messages;
	Client	   *clients;
	char	   *template;
	double		begin;
	double		end;
	double		used;

	if (nclients < 1 || count < nclients)
		die("usage", "load MODE CLIENTS COUNT FIRST TEMPLATE CONNINFO");
	mode = argv[1];
	template = read_file(argv[5]);
	messages = calloc(count, sizeof(Message));
	clients = calloc(nclients, sizeof(Client));
	for (int i = 0; i < count; i++)
		build(&messages[i], template, atoi(argv[4]) + i);
	pthread_barrier_init(&start, NULL, nclients + 1);
	for (int i = 0; i < nclients; i++)
	{
		open_client(&clients[i], argv[6]);
		clients[i].messages = messages + (long) count * i / nclients;
		clients[i].count = (long) count * (i + 1) / nclients - (long) count * i / nclients;
		pthread_create(&clients[i].thread, NULL, run, &clients[i]);
	}
	used = processor(clients, nclients);
	pthread_barrier_wait(&start);
	begin = now();
	for (int i = 0; i < nclients; i++)
		pthread_join(clients[i].thread, NULL);
	end = now();
	printf("%d %.6f %.6f\n", count, end - begin, processor(clients, nclients) - used);
	return 0;
}
