/*
 * delivery.h
 *		A message between its claim and its settlement.
 *
 * claim.c claims messages, prepare.c completes what is sent, delivery.c makes
 * requests and judges their answers, sender.c sends, settle.c writes the results,
 * release.c gives back messages that are not sent, dead_sender.c those of processes
 * that are gone.
 */
#ifndef STRIPE_SYNC_DELIVERY_H
#define STRIPE_SYNC_DELIVERY_H

#include "stripe_sync.h"

#include "lib/ilist.h"
#include "lib/stringinfo.h"

#include "http.h"
#include "slack.h"

#define MAX_RESPONSE		 2048 /* bytes of an answer that are kept */
#define DELIVERY_SECRET_SIZE 2048 /* bytes of a URL or token */

typedef struct Delivery
{
	dlist_node node;	  /* in one of sender.c's lists */
	MemoryContext memory; /* holds all of it, outside of any transaction */

	/* what was claimed */
	int64 id;
	int attempt;
	char *destination;
	char *method; /* post, update, summary, test */
	bool is_webhook;
	bool threaded;	 /* it is of a thread, or may begin one */
	char *payload;	 /* JSON, an object */
	char *thread;	 /* its key, or NULL */
	int64 incident;	 /* 0: none */
	char *channel;	 /* the destination's, or that of the message to update */
	char *thread_ts; /* the message to reply to, or NULL */
	char *update_ts; /* the message to update, or NULL */
	char *secret;	 /* URL or token: wiped by delivery_free; NULL: none */
	char *trouble;	 /* why there is none, or why its URL may not be called */

	/* state */
	bool token_checked; /* auth.test has passed, for method test */
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

/* ---- in claim.c: waiting -> sending ---- */
typedef struct ClaimOutlook
{
	TimestampTz next; /* when more may be claimed */
	bool paced;		  /* due messages wait only because of the rate limit */
} ClaimOutlook;

extern List *outbox_claim(int room, ClaimOutlook *outlook);

/* ---- in prepare.c: what is sent ---- */
extern void outbox_prepare(List *deliveries);

/* ---- in delivery.c: the request, and what its answer means ---- */
extern Delivery *delivery_make(void);
extern void delivery_free(Delivery *delivery);
extern char *delivery_request(const Delivery *delivery, HttpRequest *request,
							  StringInfo body, StringInfo header);
extern void delivery_judge(Delivery *delivery, HttpAnswer *answer);
extern bool delivery_continue(Delivery *delivery);

/* ---- in settle.c: sending -> sent, waiting, dead ---- */
extern void outbox_settle(const List *deliveries);

/* ---- in release.c: sending -> waiting, without a result ---- */
typedef struct Lease
{
	int64 id;
	int attempt;
} Lease;

extern Lease *lease_make(int64 id, int attempt);
extern List *delivery_leases(const List *deliveries);
extern void outbox_release(const List *leases, bool sent);
extern void outbox_unblock(StatementArg ids);
extern void outbox_unblock_orphans(void);

/* ---- in dead_sender.c: the same, for processes that are gone ---- */
extern void outbox_reclaim(const List *mine);

/* ---- in sender.c: the deliveries of this process ---- */
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
