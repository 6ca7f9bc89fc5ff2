/*
 * outbox.h
 *		Destinations, messages and their delivery to Slack.
 */
#ifndef STRIPE_SYNC_OUTBOX_H
#define STRIPE_SYNC_OUTBOX_H

#include "lib/ilist.h"
#include "lib/stringinfo.h"

#include "base/base.h"
#include "base/compat.h"

/* ---- destination.c ---- */

typedef struct Destination
{
	char *name;
	bool is_webhook;
	char *channel; /* NULL for a webhook */
	bool enabled;
	char *disabled_reason;
	char *fallback;
	char *escalation;
	char *app;		   /* whose buttons work there, or NULL */
	bool plain_blocks; /* Slack rejected newer kinds of blocks there */
} Destination;

extern bool destination_find(const char *name, Destination *destination);
compat_noreturn extern void destination_missing(const char *name);

/* ---- destination_setup.c ---- */

extern void destination_enable(text *name); /* raises SY005 */
/* Keeps it from being dropped until the transaction ends.  Raises SY005. */
extern void destination_hold(text *name);

/* ---- destination_argument.c ---- */

extern bool destination_is_plain_line(const text *value, int most);
extern bool destination_could_be_secret(const text *value);
extern void destination_check_token(const text *token);

/* ---- destination_app.c ---- */

extern void destination_assign_app(const text *name);

/* ---- destination_refused.c ---- */

extern int destination_count_refused(void);
extern void destination_notice_unreported(const char *name);

/* ---- secret_rotation.c ---- */

extern void secret_rotation_check(void);

/* ---- outbox.c ---- */

typedef struct NewMessage
{
	const char *destination;
	const char *method; /* post, update, summary, test */
	Jsonb *payload;		/* {"text": ..., "blocks": [...]} */
	const char *key;	/* or NULL, like those below */
	const char *thread;
	TimestampTz due_at;
	const char *event_id;
	const char *account;
	const char *alert;
	int64 incident; /* 0: none */
	int64 after;	/* a message that is to be settled first, 0: none */
	bool held;		/* not sent before quiet_end_turn() lets it go */
} NewMessage;

/*
 * Returns the message's id, or 0 if there is one with its key, or if a change of
 * the incident's message is waiting already.  Runs in the engine's scope.
 */
extern int64 outbox_enqueue(const NewMessage *message);

/* Raises SY005 if there is no such message, 55000 if it is sent or being sent. */
extern void message_retry(int64 id);

/* Set by alert_init().  They run in the engine's scope. */
typedef struct OutboxHooks
{
	/* The current payload of an incident's message, NULL: as it was queued */
	Jsonb *(*render)(int64 incident, int64 message, const char *method);
	void (*destination_disabled)(Jsonb *object);
	void (*destination_enabled)(text *destination);
	void (*destination_dropped)(text *destination);
} OutboxHooks;

extern const OutboxHooks *outbox_hooks;

/* ---- claim.c ---- */

typedef struct ClaimOutlook
{
	TimestampTz next; /* when more may be claimed */
	bool paced;		  /* due messages wait only because of the rate limit */
} ClaimOutlook;

/* ---- sender.c ---- */

extern void sender_setup(void);
extern bool sender_process_answers(void);
extern bool sender_claim_and_send(ClaimOutlook *outlook);
extern void sender_reclaim(void);
extern void sender_close(void);
extern void sender_release_all(void);
extern bool sender_idle(void);
extern TimestampTz sender_next(void);

/* ---- slack_answer.c ---- */

struct HttpAnswer;
struct SlackJudgement;

extern void slack_judge_http(const struct HttpAnswer *answer, bool plain,
							 struct SlackJudgement *judgement);

/* ---- release.c ---- */

extern void outbox_unblock_orphans(void);

#endif /* STRIPE_SYNC_OUTBOX_H */
