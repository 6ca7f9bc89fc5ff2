/*
 * flight.h
 *		A message between its claim and its settlement.
 *
 * claim.c claims flights, flight.c knows what they say, sender.c sends them, settle.c writes what came of
 * them, lease.c lets go of what nobody sends any more.  Each is a memory context of its own, outside of any transaction.
 */
#ifndef STRIPE_SYNC_FLIGHT_H
#define STRIPE_SYNC_FLIGHT_H

#include "stripe_sync.h"

#include "lib/ilist.h"
#include "lib/stringinfo.h"

#include "http.h"
#include "slack.h"

#define MAX_RESPONSE	   2048 /* bytes of an answer that are kept */
#define FLIGHT_SECRET_SIZE 2048

typedef struct Flight
{
	dlist_node node;
	MemoryContext memory;

	/* what was claimed */
	int64 id;
	int attempt;
	char *destination;
	char *method;
	bool is_webhook;
	bool threaded;	 /* its settlement may free another */
	char *payload;	 /* JSON, an object */
	char *channel;	 /* that of the destination, or of the message to update */
	char *thread_ts; /* the thread's first message, or NULL */
	char *update_ts; /* the message to update, or NULL */
	char *secret;	 /* URL or token: wiped by flight_free; NULL: none */
	char *trouble;	 /* why there is none */

	/* where it is */
	bool token_checked; /* a test's auth.test has passed */

	bool moot; /* there is nothing to update */

	/* what came of it */
	SlackJudgement judgement;
	int status;		  /* HTTP's, 0: none */
	long retry_after; /* seconds, -1: none */
	char request_id[128];
	char response[MAX_RESPONSE + 1];
	TimestampTz started;
	TimestampTz finished;
} Flight;

/* ---- in claim.c ---- */
typedef struct ClaimOutlook
{
	TimestampTz next; /* when something more may be claimed */
	bool paced;		  /* what is due waits for nothing but its pace */
} ClaimOutlook;

extern List *outbox_claim(int room, ClaimOutlook *outlook);

/* ---- in flight.c ---- */
extern Flight *flight_make(void);
extern void flight_free(Flight *flight);
extern char *flight_request(const Flight *flight, HttpRequest *request,
							StringInfo body, StringInfo header);
extern void flight_judge(Flight *flight, HttpAnswer *answer);
/* It is to be sent once more, now and as the same attempt. */
extern bool flight_goes_on(Flight *flight);

/* ---- in settle.c ---- */
extern void outbox_settle(List *flights);
extern void outbox_unblock(Datum ids);

/* ---- in lease.c ---- */
typedef struct Lease
{
	int64 id;
	int attempt;
} Lease;

extern List *leases_of(const List *flights);
extern void outbox_release(const List *leases, bool sent);
extern void outbox_reclaim(const List *mine);
extern void outbox_heal(void);

/* ---- in sender.c ---- */
extern void sender_setup(void);
extern int sender_room_for(const char *destination);
extern bool sender_settle(void);
extern bool sender_claim(ClaimOutlook *outlook);
extern void sender_reclaim(void);
extern void sender_close(void);
extern void sender_drop(void);
extern bool sender_idle(void);
extern TimestampTz sender_next(void);

#endif /* STRIPE_SYNC_FLIGHT_H */
