/*
 * deliveries.c
 *		Attempts to send the story's messages, and what Slack answered.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"

#include "engine/statement.h"
#include "trace/internal.h"

#define MOST_DELIVERIES 1000

/* A row of stripe_sync.delivery */
typedef struct Attempt
{
	const TraceMessage *message;
	bool numbered; /* there are others that its line may be mistaken for */
	int number;
	TimestampTz started_at;
	TimestampTz finished_at;
	int http_status;
	char *code;
	char *verdict;
	char *request_id;
	char *response;
	TimestampTz next_at; /* of the next attempt, 0: none, or unknown */
} Attempt;

static char *
ordinal(int n)
{
	const char *ending = n % 100 / 10 == 1 ? "th"
						 : n % 10 == 1	   ? "st"
						 : n % 10 == 2	   ? "nd"
						 : n % 10 == 3	   ? "rd"
										   : "th";

	return psprintf("%d%s", n, ending);
}

/* "200 ok, 213 ms, 1st attempt" */
static char *
answer_words(const Attempt *attempt)
{
	bool sent = strcmp(attempt->verdict, "sent") == 0;
	const char *code = attempt->code != NULL ? attempt->code : sent ? "ok" : "";
	StringInfoData words;

	initStringInfo(&words);
	if (attempt->http_status != 0)
		appendStringInfo(&words, "%d%s%s, ", attempt->http_status,
						 code[0] != '\0' ? " " : "", code);
	else if (code[0] != '\0')
		appendStringInfo(&words, "%s, ", code);
	if (attempt->finished_at != 0)
		appendStringInfo(
			&words, "%s, ",
			trace_duration(attempt->finished_at - attempt->started_at));
	appendStringInfo(&words, "%s attempt", ordinal(attempt->number));
	return words.data;
}

/* What an attempt achieved */
static const char *
verdict_words(const Attempt *attempt)
{
	const char *verdict = attempt->verdict;

	if (strcmp(verdict, "sent") == 0)
		return strcmp(attempt->message->method, "update") == 0 ? "updated"
															   : "posted";
	if (strcmp(verdict, "retry") == 0)
		return "not accepted";
	if (strcmp(verdict, "lost") == 0)
		return "unknown whether it was posted, because the sender ended";
	if (strcmp(verdict, "message_bad") == 0)
		return "message refused";
	return "refused, and the destination disabled";
}

/* What was sent: "message of the incident ", "message 3 " or nothing */
static char *
message_words(const Attempt *attempt)
{
	if (attempt->numbered)
		return psprintf("message " INT64_FORMAT " ", attempt->message->id);
	return attempt->message->is_post ? "" : "message of the incident ";
}

static char *
again_words(const Attempt *attempt)
{
	TimestampTz from = attempt->finished_at != 0 ? attempt->finished_at
												 : attempt->started_at;

	if (attempt->next_at == 0 || strcmp(attempt->verdict, "sent") == 0)
		return "";
	return psprintf("; again after %s",
					trace_duration(Max(attempt->next_at - from, 0)));
}

static void
tell_attempt(TraceGather *gather, const Attempt *attempt)
{
	bool sent = strcmp(attempt->verdict, "sent") == 0;
	TimestampTz at = attempt->finished_at != 0 ? attempt->finished_at
											   : attempt->started_at;
	TraceRecord *record = messages_record(gather, TRACE_DELIVERY, at,
										  attempt->message);

	record->failed = !sent;
	record->over = !sent && strcmp(attempt->message->state, "sent") == 0;
	record->attempts = attempt->number;
	record->http_status = attempt->http_status;
	record->code = attempt->code;
	record->verdict = attempt->verdict;
	record->message = attempt->response;
	record_say(record, "%s: %s%s (%s)%s", attempt->message->where,
			   message_words(attempt), verdict_words(attempt),
			   answer_words(attempt), again_words(attempt));
	record_fact_number(record, "attempt", attempt->number);
	if (attempt->http_status != 0)
		record_fact_number(record, "http_status", attempt->http_status);
	record_fact_text(record, "code", attempt->code);
	record_fact_text(record, "verdict", attempt->verdict);
	if (attempt->finished_at != 0)
		record_fact_ms(record, "ms",
					   (attempt->finished_at - attempt->started_at) / 1000.0);
	record_fact_text(record, "request_id", attempt->request_id);
	record_fact_text(record, "response", sent ? NULL : attempt->response);
}

static const TraceMessage *
find_message(List *messages, int64 id)
{
	ListCell *cell;

	foreach(cell, messages)
		if (((TraceMessage *) lfirst(cell))->id == id)
			return lfirst(cell);
	return NULL;
}

static void
read_attempt(Rows *rows, Attempt *attempt)
{
	attempt->number = rows_int4(rows, 0);
	attempt->started_at = rows_time(rows, 0);
	attempt->finished_at = rows_time(rows, 0);
	attempt->http_status = rows_int4(rows, 0);
	attempt->code = rows_text(rows);
	attempt->verdict = rows_text(rows);
	attempt->request_id = rows_text(rows);
	attempt->response = rows_text(rows);
	attempt->next_at = rows_time(rows, 0);
}

/* Are several of them new messages? */
static bool
has_several_posts(List *messages)
{
	int posts = 0;
	ListCell *cell;

	foreach(cell, messages)
		posts += ((TraceMessage *) lfirst(cell))->is_post;
	return posts > 1;
}

static StatementArg
message_ids(List *messages)
{
	ArrayBuildState *ids = initArrayResult(INT8OID, CurrentMemoryContext, false);
	ListCell *cell;

	foreach(cell, messages)
		(void) accumArrayResult(
			ids, Int64GetDatum(((TraceMessage *) lfirst(cell))->id), false,
			INT8OID, CurrentMemoryContext);
	return arg_datum(INT8ARRAYOID, makeArrayResult(ids, CurrentMemoryContext));
}

/* The lines of these messages' deliveries (TraceMessage). */
void
deliveries_tell(TraceGather *gather, List *messages)
{
	static EngineStatement select = {
		"SELECT message_id, attempt, started_at, finished_at, http_status, code,"
		" verdict, request_id, response,"
		" pg_catalog.lead(started_at) OVER (PARTITION BY message_id ORDER BY id)"
		" FROM stripe_sync.delivery WHERE message_id = ANY ($1)"
		" ORDER BY id DESC LIMIT $2"};
	bool several = has_several_posts(messages);
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(message_ids(messages), arg_int4(MOST_DELIVERIES)));
	while (rows_next(&rows))
	{
		Attempt attempt = {
			.message = find_message(messages, rows_int8(&rows, 0))};

		attempt.numbered = several && attempt.message->is_post;
		read_attempt(&rows, &attempt);
		if (attempt.next_at == 0 &&
			strcmp(attempt.message->state, "waiting") == 0)
			attempt.next_at = attempt.message->due_at;
		tell_attempt(gather, &attempt);
	}
	rows_close(&rows);
}
