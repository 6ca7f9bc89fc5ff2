/*
 * delivery.h
 *		A message between its claim and its settlement.
 *
 * claim.c claims messages, prepare.c completes what is sent, delivery.c makes
 * requests and judges their answers, sender.c sends, settle.c writes the
 * results, release.c gives back what nobody sends any more.  A delivery is a
 * memory context of its own, outside of any transaction.
 */
#ifndef STRIPE_SYNC_DELIVERY_H
#define STRIPE_SYNC_DELIVERY_H

#include "stripe_sync.h"

#include "lib/ilist.h"
#include "lib/stringinfo.h"

#include "http.h"
#include "slack.h"

#define MAX_RESPONSE		 2048 /* bytes of an answer that are kept */
#define DELIVERY_SECRET_SIZE 2048

typedef struct Delivery
{
	dlist_node node;
	MemoryContext memory;

	/* what was claimed */
	int64 id;
	int attempt;
	char *destination;
	char *method;
	bool is_webhook;
	bool threaded;	 /* its settlement may unblock another */
	char *payload;	 /* JSON, an object */
	char *thread;	 /* its key, or NULL */
	int64 incident;	 /* 0: none */
	char *channel;	 /* that of the destination, or of the message to update */
	char *thread_ts; /* the thread's first message, or NULL */
	char *update_ts; /* the message to update, or NULL */
	char *secret;	 /* URL or token: wiped by delivery_free; NULL: none */
	char *trouble;	 /* why there is none */

	/* state */
	bool token_checked; /* a test's auth.test has passed */
	bool cancelled;		/* there is nothing to update */

	/* result */
	SlackJudgement judgement;
	int status;		  /* HTTP's, 0: none */
	long retry_after; /* seconds, -1: none */
	char request_id[128];
	char response[MAX_RESPONSE + 1];
	TimestampTz started;
	TimestampTz finished;
} Delivery;

/* ---- in claim.c ---- */
typedef struct ClaimOutlook
{
	TimestampTz next; /* when more may be claimed */
	bool paced;		  /* due messages wait only for their pace */
} ClaimOutlook;

extern List *outbox_claim(int room, ClaimOutlook *outlook);

/* ---- in prepare.c ---- */
extern void outbox_prepare(List *deliveries);

/* ---- in delivery.c ---- */
extern Delivery *delivery_make(void);
extern void delivery_free(Delivery *delivery);
extern char *delivery_request(const Delivery *delivery, HttpRequest *request,
							  StringInfo body, StringInfo header);
extern void delivery_judge(Delivery *delivery, HttpAnswer *answer);
/* Is another request to be sent at once, as the same attempt? */
extern bool delivery_goes_on(Delivery *delivery);

/* ---- in settle.c ---- */
extern void outbox_settle(List *deliveries);
extern void outbox_unblock(Datum ids);

/* ---- in release.c ---- */
typedef struct Lease
{
	int64 id;
	int attempt;
} Lease;

extern List *delivery_leases(const List *deliveries);
extern void outbox_release(const List *leases, bool sent);
extern void outbox_reclaim(const List *mine);
extern void outbox_unblock_orphans(void);

/* ---- in sender.c ---- */
extern void sender_setup(void);
extern int sender_room_for(const char *destination);
extern bool sender_process_answers(void);
extern bool sender_claim_and_send(ClaimOutlook *outlook);
extern void sender_reclaim(void);
extern void sender_close(void);
extern void sender_release_all(void);
extern bool sender_idle(void);
extern TimestampTz sender_next(void);

#endif /* STRIPE_SYNC_DELIVERY_H */
