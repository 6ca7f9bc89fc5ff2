/*
 * response.c
 *		Reads a response: the headers that are kept, and the body.
 *
 * libcurl calls the callbacks: they neither palloc nor raise errors, and a return
 * value smaller than the input ends the transfer.
 */
#include "postgres.h"

#include <ctype.h>
#include <math.h>
#include <openssl/crypto.h>
#include <strings.h>
#include <time.h>

#include "http/http.h"
#include "http/internal.h"

#define MAX_HEADER_LINES 200
#define MAX_HEADER_BYTES (64 * 1024)
#define MAX_RETRY_AFTER	 86400
#define FIRST_ROOM		 4096 /* for a body */

static char no_body[] = "";

/* Also copies the request's body, because libcurl doesn't.  False: out of memory */
bool
answer_begin(AnswerReader *reader, const HttpRequest *request)
{
	memset(reader, 0, sizeof(*reader));
	reader->answer.owner = request->owner;
	reader->answer.completed = request->completed;
	reader->answer.date = reader->answer.should_retry = -1;
	reader->most = request->max_answer;
	reader->answer.retry_after = -1;
	reader->answer.body = no_body;
	reader->body_length = request->body == NULL ? 0 : request->body_length;
	reader->body = malloc(reader->body_length + 1);
	if (reader->body == NULL)
		return false;
	if (reader->body_length > 0)
		memcpy(reader->body, request->body, reader->body_length);
	return true;
}

/* A response may contain a secret, too: that of a webhook endpoint. */
void
answer_wipe(AnswerReader *reader)
{
	if (reader->body != NULL)
		OPENSSL_cleanse(reader->body, reader->body_length);
	free(reader->body);
	reader->body = NULL;
	if (reader->room > 0)
	{
		OPENSSL_cleanse(reader->answer.body, reader->answer.length);
		free(reader->answer.body);
	}
	reader->answer.body = no_body;
	reader->room = 0;
}

void
answer_fail(AnswerReader *reader, HttpFault fault, const char *trouble)
{
	reader->answer.fault = fault;
	strlcpy(reader->answer.trouble, trouble, sizeof(reader->answer.trouble));
}

static void
fail_too_large(AnswerReader *reader)
{
	answer_fail(reader, HTTP_TOO_LARGE, "the response is too large");
}

static bool
buffer_enlarge(AnswerReader *reader, size_t needed)
{
	size_t room = reader->room == 0 ? Max(FIRST_ROOM, reader->expected + 1)
									: reader->room;
	char *body;

	if (needed <= reader->room)
		return true;
	while (room < needed)
		room *= 2;
	body = malloc(room);
	if (body == NULL)
		return false;
	memcpy(body, reader->answer.body, reader->answer.length);
	if (reader->room > 0)
	{
		OPENSSL_cleanse(reader->answer.body, reader->answer.length);
		free(reader->answer.body);
	}
	reader->answer.body = body;
	reader->room = room;
	return true;
}

/* Returns NULL if there is no memory for an empty body. */
char *
http_keep_body(HttpAnswer *answer)
{
	AnswerReader *reader = (AnswerReader *) answer;
	char *body = reader->room > 0 ? answer->body : calloc(1, 1);

	answer->body = no_body;
	answer->length = 0;
	reader->room = 0;
	return body;
}

size_t
answer_take_body(char *bytes, size_t size, size_t count, void *user)
{
	AnswerReader *reader = user;
	HttpAnswer *answer = &reader->answer;
	size_t length = Min(size * count, reader->most - answer->length);

	if (!buffer_enlarge(reader, answer->length + length + 1))
	{
		answer_fail(reader, HTTP_CONNECTION, "out of memory");
		return 0;
	}
	memcpy(answer->body + answer->length, bytes, length);
	answer->length += length;
	answer->body[answer->length] = '\0';
	if (length < size * count)
		fail_too_large(reader);
	return length;
}

/*
 * If the line is a header of this name, copy the printable characters of its
 * value, at most size - 1.
 */
static bool
header_read(const char *line, size_t length, const char *name, char *value,
			size_t size)
{
	size_t at = strlen(name);
	size_t n = 0;

	if (length <= at || line[at] != ':' || strncasecmp(line, name, at) != 0)
		return false;
	while (++at < length && (line[at] == ' ' || line[at] == '\t'))
		;
	for (; at < length && n < size - 1; at++)
		if (line[at] >= ' ' && line[at] <= '~')
			value[n++] = line[at];
	while (n > 0 && value[n - 1] == ' ')
		n--;
	value[n] = '\0';
	return true;
}

/* A date in the format of RFC 9110, in seconds of Unix time; -1: invalid */
static int64
date_read(const char *value)
{
	struct tm at = {0};
	char *end = strptime(value, "%a, %d %b %Y %H:%M:%S GMT", &at);

	return end != NULL && *end == '\0' ? (int64) timegm(&at) : -1;
}

/* Retry-After is a number of seconds, or a date.  -1: invalid */
static long
retry_after_read(const char *value)
{
	double seconds;
	char *end;

	if (isdigit((unsigned char) *value))
	{
		seconds = strtod(value, &end);
		if (*end != '\0')
			return -1;
	}
	else
	{
		int64 at = date_read(value);

		if (at < 0)
			return -1;
		seconds = difftime((time_t) at, time(NULL));
	}
	seconds = Min(seconds, MAX_RETRY_AFTER);
	return seconds > 0 ? (long) ceil(seconds) : 0;
}

/* With the size known in advance, the buffer need not be enlarged. */
static void
note_expected_size(AnswerReader *reader, const char *value)
{
	unsigned long long size = strtoull(value, NULL, 10);

	reader->expected = (size_t) Min(size, reader->most);
}

static void
header_read_more(AnswerReader *reader, const char *line, size_t length)
{
	HttpAnswer *answer = &reader->answer;
	char value[64];

	if (header_read(line, length, "Content-Length", value, sizeof(value)))
		note_expected_size(reader, value);
	else if (header_read(line, length, "Date", value, sizeof(value)))
		answer->date = date_read(value);
	else if (header_read(line, length, "Idempotent-Replayed", value,
						 sizeof(value)))
		answer->replayed = strcmp(value, "true") == 0;
	else if (header_read(line, length, "Stripe-Should-Retry", value,
						 sizeof(value)))
		answer->should_retry = strcmp(value, "true") == 0	 ? 1
							   : strcmp(value, "false") == 0 ? 0
															 : -1;
}

size_t
answer_take_header(char *line, size_t size, size_t count, void *user)
{
	AnswerReader *reader = user;
	HttpAnswer *answer = &reader->answer;
	size_t length = size * count;
	char value[64];

	reader->header_bytes += length;
	if (++reader->header_lines > MAX_HEADER_LINES ||
		reader->header_bytes > MAX_HEADER_BYTES)
	{
		fail_too_large(reader);
		return 0;
	}
	if (header_read(line, length, "Retry-After", value, sizeof(value)))
		answer->retry_after = retry_after_read(value);
	else if (!header_read(line, length, "Request-Id", answer->request_id,
						  sizeof(answer->request_id)) &&
			 !header_read(line, length, "X-Slack-Req-Id", answer->request_id,
						  sizeof(answer->request_id)))
		header_read_more(reader, line, length);
	return length;
}
