/*
 * server.h
 *		What a server has once: launcher, shared memory, permission to send.
 */
#ifndef STRIPE_SYNC_SERVER_H
#define STRIPE_SYNC_SERVER_H

#include "base/base.h"

/* ---- worker_slots.c ---- */

extern void slots_init(void);
extern bool process_is_worker(void);
extern void worker_wake_at_commit(void);	/* when this transaction commits */
extern void worker_wake_from_session(void); /* unless this is the worker */
extern void worker_report_state(const char *state);

/* ---- launcher.c ---- */

extern void launcher_init(void);

/* ---- database_ddl.c ---- */

extern void database_ddl_init(void);

/* ---- outbound.c ---- */

typedef enum OutboundState
{
	OUTBOUND_ON,
	OUTBOUND_OFF,	   /* stripe_sync.outbound is off */
	OUTBOUND_COPY,	   /* the identity is that of another database */
	OUTBOUND_RESTORED, /* the server was restored from a backup */
	OUTBOUND_UNNOTED   /* nothing has been set up */
} OutboundState;

extern void outbound_note_identity(void); /* called by every set-up function */
extern OutboundState outbound_state(void);
extern bool outbound_is_original(void);
extern const char *outbound_reason(OutboundState state);
extern void outbound_warn(OutboundState state);
extern bool outbound_paused(const char *what);
extern bool outbound_allowed(const char *what);
extern void outbound_init(void); /* in the postmaster */

/* ---- standstill.c ---- */

typedef struct Standstill
{
	const char *reason;
	const char *hint;
	bool work_helps; /* CALL work() would do it */
} Standstill;

extern bool standstill_find(const char *what, Standstill *standstill);
extern void standstill_note(const char *what);

/* ---- journal.c ---- */

extern void journal_note(const char *what, const char *ref, const char *detail);
extern void journal_note_text(const char *what, text *ref, const char *detail);

/* Entries with different details are one row, with the last detail. */
extern void journal_count(const char *what, const char *ref, const char *detail);

/* What body(arg) does is by somebody else than the caller: "slack:U..." */
extern void journal_run_as(const char *by, void (*body)(void *), void *arg);

/* ---- refused_count.c ---- */

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

#endif /* STRIPE_SYNC_SERVER_H */
