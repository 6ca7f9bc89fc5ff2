/*
 * internal.h
 *		What the files of this folder share.
 */
#ifndef STRIPE_SYNC_OUTBOX_INTERNAL_H
#define STRIPE_SYNC_OUTBOX_INTERNAL_H

#include "lib/ilist.h"
#include "lib/stringinfo.h"

#include "base/base.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "http/http.h"
#include "outbox/outbox.h"
#include "outbox/slack.h"

/* ---- destination.c ---- */

extern bool destination_secret(const char *name, char *buffer, size_t size,
							   char **trouble);

/* ---- destination_argument.c ---- */

#define DESTINATION_MAX_LINE 255 /* bytes of a channel or a customer's id */

extern text *destination_optional_text(FunctionCallInfo fcinfo, int number);
extern text *destination_required_text(FunctionCallInfo fcinfo, int number,
									   const char *name);
extern bool destination_text_begins_with(const text *value, const char *prefix);
extern void destination_check_name(const text *name);
extern void destination_check_channel(const text *channel);
extern void destination_check_url(const text *url);

/* ---- destination_pace.c ---- */

extern void pace_make(text *destination);
extern void pace_lock(text *destination);
extern void pace_unblock(text *destination);
extern void pace_delete(text *destination);
extern ArrayType *pace_lock_available(StatementArg destinations);
extern TimestampTz pace_blocked(TimestampTz blocked_until, TimestampTz now);
extern int pace_allows(TimestampTz next_at, TimestampTz now, int most,
					   TimestampTz *next);
extern void pace_count(StatementArg destinations);
extern void pace_lock_all(StatementArg destinations);
extern void pace_block(const char *destination, const char *reason,
					   TimestampTz until);

/* ---- destination_setup.c ---- */

extern void destination_setup_end(const RoleScope *scope);
extern void destination_change(text *name, EngineStatement *update,
							   const StatementArg *args, int nargs);

/* ---- destination_refused.c ---- */

extern void destination_disable_refused(const char *name, const char *reason);

/* ---- secret_rotation.c ---- */

extern void secret_rotation_note(const char *name, const char *secret);
extern void secret_rotation_forget(text *name);

/* ---- claim.c ---- */

extern List *outbox_claim(int room, ClaimOutlook *outlook);

/* ---- prepare.c ---- */

extern void outbox_prepare(List *deliveries);

/* ---- delivery.c ---- */

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
	bool newer_blocks;	/* the payload has newer kinds of blocks */
	bool plain_retry; /* Slack rejected it with those: it has plain forms now */
	bool cancelled;	  /* there is nothing to update */

	/* result */
	SlackJudgement judgement;
	int status;		  /* HTTP's, 0: none */
	long retry_after; /* seconds, -1: none */
	char request_id[128];
	char response[MAX_RESPONSE + 1];
	TimestampTz started;
	TimestampTz finished;
} Delivery;

extern Delivery *delivery_make(void);
extern void delivery_free(Delivery *delivery);
extern char *delivery_request(const Delivery *delivery, HttpRequest *request,
							  StringInfo body, StringInfo header);
extern void delivery_judge(Delivery *delivery, HttpAnswer *answer);
extern bool delivery_continue(Delivery *delivery);

/* ---- sender.c ---- */

extern int sender_room_for(const char *destination);

/* ---- settle.c ---- */

extern void outbox_settle(const List *deliveries);

/* ---- release.c ---- */

typedef struct Lease
{
	int64 id;
	int attempt;
} Lease;

extern Lease *lease_make(int64 id, int attempt);
extern List *delivery_leases(const List *deliveries);
extern void outbox_release(const List *leases, bool sent);
extern void outbox_unblock(StatementArg ids);

/* ---- dead_sender.c ---- */

extern void outbox_reclaim(const List *mine);

#endif /* STRIPE_SYNC_OUTBOX_INTERNAL_H */
