/*
 * refused.h
 *		Refused deliveries: counted in memory, written to a table once a minute,
 *		and reported to alerts.
 */
#ifndef STRIPE_SYNC_REFUSED_H
#define STRIPE_SYNC_REFUSED_H

#include "stripe_sync.h"

/* A delivery as it was received */
typedef struct DeliveryParts
{
	const char *payload;
	int length;
	text *signature; /* the header, or NULL */
	const char *endpoint;
	bool raises; /* a refusal raises an error, which rolls back what it wrote */
} DeliveryParts;

/* ---- in refused_delivery.c: one refused delivery ---- */

/* Returns a hint for its sender, or NULL. */
extern const char *delivery_refused(const DeliveryParts *delivery,
									const Refusal *refusal);
extern void delivery_refused_unfit(const Refusal *refusal);
extern void delivery_accepted(const DeliveryParts *delivery);

/*
 * Counts an event as SY006 that was held because of its mode, not refused.
 */
extern void delivery_of_other_mode(const char *endpoint, bool live,
								   const char *detail);

/* ---- in matching_secret.c: which other secret does it fit? ---- */
typedef enum Misfit
{
	MISFIT_NONE,	/* none of this database */
	MISFIT_LAPSED,	/* one of this endpoint that has lapsed */
	MISFIT_ANOTHERS /* one of another endpoint */
} Misfit;

/* Bodies over this many bytes are not tried */
#define MISFIT_MOST 65536

extern Misfit misfit_find(const DeliveryParts *delivery, char **detail);

/* ---- in refused_count.c: counts in memory, of a fixed size ---- */

/* Each has a count of its own; the last one is for everything else */
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

/* One refused delivery, to be counted */
typedef struct RefusalNote
{
	const char *endpoint; /* "": there is none of that name */
	int kind;
	const char *detail;
	bool vague;	   /* its detail does not replace a recent one */
	bool likely;   /* it probably came from Stripe */
	bool live;	   /* a live event refused because of its mode */
	uint32 reason; /* distinguishes causes of one kind in the log */
} RefusalNote;

typedef struct RefusalCount
{
	int64 events; /* not written to the table yet */
	TimestampTz first_at;
	TimestampTz last_at;
	TimestampTz logged_at; /* 0: never, as are all times here */
	uint32 reason;
	TimestampTz detail_at;
	char detail[REFUSAL_DETAIL];
} RefusalCount;

/* The counts of one endpoint since they were last written to the table */
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
	TimestampTz tried_at; /* all secrets were tried; kept for endpoint "" */
	RefusalCount counts[REFUSAL_KINDS];
} RefusalTrace;

extern void refusals_init(void);
extern bool refusals_shared(void); /* false: counted in this session only */
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

/* ---- in refused_watch.c: reports to alerts ---- */
extern void refusals_judge(void);

#endif /* STRIPE_SYNC_REFUSED_H */
