/*
 * trace.h
 *		The story of an object or event across Stripe, Postgres and Slack.
 */
#ifndef STRIPE_SYNC_TRACE_H
#define STRIPE_SYNC_TRACE_H

#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

/* ---- in trace.c ---- */

/* One thing that happened */
typedef struct TraceLine
{
	TimestampTz at;
	const char *system; /* stripe, postgres, slack */
	char *what;			/* one line of plain text */
	char *ref;	   /* what it is about: "evt_...", "message 1", "incident 1" */
	Jsonb *detail; /* the facts behind "what", or NULL */
} TraceLine;

/* One object, or an event, message, incident, job, with what belongs to it */
typedef struct TraceStory
{
	char *heading; /* invoice in_1  EUR 29.00  open -> paid  customer cus_1 "Ada" */
	char *verdict; /* what is wrong, and what to do; NULL: nothing */
	List *lines;   /* of TraceLine, oldest first */
	char *cut;	   /* what was left out; NULL: nothing */
} TraceStory;

/*
 * The stories of a reference; several if it is an e-mail address of several
 * customers.  "account" and "span" may be NULL.  Raises SY005 if nothing is
 * known by that reference.
 */
extern List *trace_collect(const char *ref, const char *account,
						   const Interval *span);

/* ---- in text.c: what trace_text() returns; as trace_collect() ---- */
extern char *trace_text(const char *ref, const char *account,
						const Interval *span);

/* ---- in html.c ---- */

/* One story as HTML that goes into a page, with a heading of that level */
extern void trace_html_story(StringInfo out, const TraceStory *story, int level);

/* The CSS of such stories, for the page's <style> */
extern const char *trace_html_style(void);

#endif /* STRIPE_SYNC_TRACE_H */
