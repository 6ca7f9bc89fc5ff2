/*
 * refused.h
 *		Deliveries that are refused leave a trace: counted in memory, written
 *		down once a minute, and told.
 */
#ifndef STRIPE_SYNC_REFUSED_H
#define STRIPE_SYNC_REFUSED_H

#include "stripe_sync.h"

/* A delivery as it came. */
typedef struct DeliveryParts
{
	const char *payload;
	int length;
	text *signature; /* the header, or NULL */
	const char *endpoint;
	bool raises; /* a refusal is raised: what is written is undone */
} DeliveryParts;

/* ---- in refused_delivery.c: what is noted of a delivery ---- */

/* Returns what its sender may do about it, or NULL. */
extern const char *delivery_refused(const DeliveryParts *delivery,
									const Refusal *refusal);
extern void delivery_refused_unfit(const Refusal *refusal);
extern void delivery_accepted(const DeliveryParts *delivery);

/*
 * For a genuine event that is put aside because of its mode, without being
 * refused: counted as SY006.
 */
extern void delivery_of_other_mode(const char *endpoint, bool live,
								   const char *detail);

/* ---- in matching_secret.c: which secret would have fit? ---- */
typedef enum Misfit
{
	MISFIT_NONE,	/* none of this database's */
	MISFIT_LAPSED,	/* one that the endpoint had */
	MISFIT_ANOTHERS /* one of another endpoint's */
} Misfit;

/* The largest body that is tried */
#define MISFIT_MOST 65536

extern Misfit misfit_find(const DeliveryParts *delivery, char **detail);

/* ---- in refused_count.c: counts in memory, of a fixed size ---- */

/* What is counted apart; the last is everything else. */
enum RefusalKind
{
	REFUSAL_UNREADABLE, /* SY001 */
	REFUSAL_MISFIT,		/* SY002 */
	REFUSAL_TOO_OLD,	/* SY003 */
	REFUSAL_NO_EVENT,	/* SY004 */
	REFUSAL_NO_NAME,	/* SY005 */
	REFUSAL_MODE,		/* SY006 */
	REFUSAL_NO_SECRET,	/* SY007 */
	REFUSAL_STATE,		/* 55000 */
	REFUSAL_KINDS
};

#define REFUSAL_DETAIL 256 /* bytes, with the terminating NUL */
#define REFUSAL_LIKELY 3   /* that make an alert, within an hour */

/* What one delivery adds. */
typedef struct RefusalNote
{
	const char *endpoint; /* "": none of that name */
	int kind;
	const char *detail;
	bool vague;	   /* a detail that is known of one shortly before is better */
	bool likely;   /* it looks like Stripe's */
	bool live;	   /* an event of live mode, refused by its mode */
	uint32 reason; /* tells causes of one kind apart, in the log */
} RefusalNote;

typedef struct RefusalCount
{
	int64 events; /* that are not written down yet */
	TimestampTz first_at;
	TimestampTz last_at;
	TimestampTz logged_at; /* 0: never, as are all times here */
	uint32 reason;
	TimestampTz detail_at;
	char detail[REFUSAL_DETAIL];
} RefusalCount;

/* Of one endpoint, since it was written down last */
typedef struct RefusalTrace
{
	Oid database;
	char endpoint[NAMEDATALEN];
	bool changed;
	TimestampTz used_at;
	TimestampTz likely[REFUSAL_LIKELY]; /* the newest first */
	int likely_kind;
	TimestampTz live_at;
	TimestampTz no_secret_at;
	TimestampTz accepted_at;
	TimestampTz tried_at; /* others' secrets; of the endpoint "" */
	RefusalCount counts[REFUSAL_KINDS];
} RefusalTrace;

extern void refusals_init(void);
extern bool refusals_shared(void); /* false: this session's alone */
extern const char *refusal_code(int kind);
extern bool refusal_count(const RefusalNote *note);
extern void refusal_set_logged(const RefusalNote *note, TimestampTz at);
extern void refusal_note_accepted(const char *endpoint);
extern bool refusal_may_try(void);
extern bool refusal_take(int *place, RefusalTrace *copy);
extern void refusal_give_back(const RefusalTrace *copy);

/* ---- in refused_write.c: stripe_sync.refusal_record, .refusal_watch ---- */
extern bool refusal_write_now(const RefusalNote *note);
extern void refusals_write(void);

/* ---- in refused_watch.c: what alerts are told ---- */
extern void refusals_judge(void);

#endif /* STRIPE_SYNC_REFUSED_H */
