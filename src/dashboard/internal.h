/*
 * internal.h
 *		What dashboard() and dashboard_text() share: what was read, how it is
 *		written, and the parts of the page.
 */
#ifndef STRIPE_SYNC_DASHBOARD_INTERNAL_H
#define STRIPE_SYNC_DASHBOARD_INTERNAL_H

#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "utils/timestamp.h"

#include "doctor/doctor.h"

/* The charts show six hours, of five minutes each; the last one is not over. */
#define BINS		72
#define BIN_SECONDS 300

/* ---- in figures.c: what is shown as figures and charts ---- */

typedef struct Totals
{
	int64 events;	  /* since the start of the charts */
	int64 last_hour;  /* of them */
	double p50, p95;  /* delivery delay in seconds; below 0: not known */
	TimestampTz last; /* when the newest was received; 0: none */
	int64 failed;	  /* events to be tried again */
	int64 dead;		  /* events that will not */
	int64 pending;	  /* events not applied yet */
	TimestampTz oldest_failed;
	int64 waiting;	 /* messages that are due */
	int64 scheduled; /* messages that are due later */
	int64 held;		 /* messages that quiet hours hold */
	TimestampTz oldest_waiting;
	bool waiting_cut; /* there are more than were counted */
} Totals;

/* Deliveries to a destination since the start of the day before */
typedef struct DestinationFigures
{
	char *name;
	int64 sent;
	int64 repeated; /* to be tried again */
	int64 failed;
	TimestampTz last;
	char *disabled; /* why it is; NULL: it is enabled */
	bool known;		/* it is a destination still */
} DestinationFigures;

typedef struct Figures
{
	TimestampTz now;
	TimestampTz start; /* of the first bin */
	int first_bin;	   /* the bins before it were not read */
	bool events_cut;   /* even the last bins have more events than counted */
	int64 events[BINS];
	int64 delays[BINS]; /* events whose delay is known */
	double p50[BINS];
	double p95[BINS];
	int64 step_failures[BINS];
	int64 delivery_failures[BINS];
	int64 backlog[BINS];
	Totals totals;
	List *destinations; /* of DestinationFigures, by name */
} Figures;

extern void figures_read(Figures *figures);
extern double figures_rate(const Figures *figures, int bin);

/* ---- in page.c ---- */

extern int dashboard_plan_settings(void);

/* ---- in backlog.c ---- */

extern void backlog_read(Figures *figures);
extern void deliveries_read(Figures *figures);

/* ---- in state.c: incidents, events, jobs, refusals, worker ---- */

typedef struct OpenIncident
{
	int64 id;
	char *alert;
	char *severity;
	char *destination;
	char *text;
	int64 events;
	TimestampTz opened_at;
	char *acknowledged_by;	   /* NULL: nobody */
	TimestampTz snoozed_until; /* 0: it is not snoozed */
	TimestampTz muted_until;   /* of its alert; 0: it is not muted */
	bool held;				   /* quiet hours hold its message */
} OpenIncident;

typedef struct LastEvent
{
	char *id;
	char *account;
	char *type;
	char *object_id; /* NULL: none */
	char *status;
	char *source;
	char *endpoint; /* NULL: not known */
	char *error;	/* NULL: none */
	TimestampTz received_at;
} LastEvent;

typedef struct Refused
{
	char *endpoint; /* NULL: there is none of the name that was called */
	char *code;
	char *detail;
	int64 events;
	TimestampTz last_at;
} Refused;

typedef struct RecentJob
{
	int64 id;
	char *kind;
	char *state;
	char *error; /* NULL: none */
	double progress;
	TimestampTz at;
} RecentJob;

typedef struct State
{
	char *instance; /* NULL: not set */
	char *database;
	char *server_version;
	char *worker;			  /* its state in words */
	TimestampTz worker_since; /* 0: not known */
	bool standby;
	TimestampTz replayed; /* standby: of the last transaction; 0: not known */
	List *notes;		  /* of char *: why nothing is sent */
	List *incidents;
	int64 open_incidents;
	List *events;
	List *refusals;
	List *jobs;
} State;

extern void state_read(State *state, const Figures *figures);

/* ---- in findings.c ---- */

typedef struct Findings
{
	List *rows; /* of DoctorRow, the worst first */
	int count[FINDING_UNKNOWN + 1];
	int muted;
	char *failure; /* why the doctor could not look; NULL: it has */
} Findings;

extern void findings_read(Findings *findings, TimestampTz now);
extern bool finding_is_muted(const DoctorRow *row, TimestampTz now);
extern char *findings_summary(const Findings *findings);

/* ---- in words.c: figures in words ---- */

/*
 * Why Slack is not told of it now: "acknowledged by U1, alert muted until 09:00:00",
 * or briefly, without who and until when; "" if there is no reason.
 */
extern char *incident_quiet_words(const OpenIncident *incident, TimestampTz now,
								  bool brief);

extern char *clock_words(TimestampTz at);	  /* 09:00:05, or with the day */
extern char *clock_minutes(TimestampTz at);	  /* 09:00 */
extern char *full_time_words(TimestampTz at); /* with the zone */
extern char *utc_time_words(TimestampTz at);  /* for machines */
extern char *age_words(TimestampTz at, TimestampTz now); /* 5 min ago */
extern char *seconds_words(double seconds);				 /* 1.5 s, 3 min, 2 h */
extern char *count_words(int64 count);					 /* 1,234 */
extern char *number_words(double number);
extern char *bytes_words(double bytes);
extern char *plural_words(int64 count, const char *singular, const char *plural);
extern char *slack_plain(const char *text); /* text without Slack's markup */

/* ---- in markup.c: HTML ---- */

extern void html_text(StringInfo out, const char *text);
extern void html_clipped(StringInfo out, const char *text, int most);
extern void html_name(StringInfo out, const char *text);
extern void html_section(StringInfo out, const char *id, const char *title,
						 const char *aside);
extern void html_section_end(StringInfo out);
extern void html_time(StringInfo out, TimestampTz at);
extern void html_as_of(StringInfo out, TimestampTz at, TimestampTz now);
extern void html_nothing(StringInfo out, const char *what);

/* ---- in style.c ---- */

extern const char dashboard_style[];

/* ---- in chart.c: one chart of BINS bins as SVG ---- */

typedef struct Chart
{
	StringInfo out;
	const Figures *figures;
	const char *id;
	double top; /* the highest value of the axis */
} Chart;

extern void chart_begin(Chart *chart, const char *title, const char *legend,
						const char *description, double highest, bool whole);
extern void chart_bars(Chart *chart, const char *class, const double *values,
					   const double *below, const char *unit);
extern void chart_line(Chart *chart, const char *class, const double *values,
					   bool filled);
extern void chart_end(Chart *chart);

/* ---- in charts.c ---- */

extern void charts_append(StringInfo out, const Figures *figures);

/* ---- in panels.c: the page's lists ---- */

extern void tiles_append(StringInfo out, const Figures *figures,
						 const State *state);
extern void destinations_append(StringInfo out, const Figures *figures);
extern void incidents_append(StringInfo out, const Figures *figures,
							 const State *state);
extern void refusals_append(StringInfo out, const Figures *figures,
							const State *state);
extern void jobs_append(StringInfo out, const Figures *figures,
						const State *state);

/* ---- in page_findings.c ---- */

extern void findings_append(StringInfo out, const Findings *findings,
							TimestampTz now);

/* ---- in events.c ---- */

extern void events_append(StringInfo out, const Figures *figures,
						  const State *state);

/* ---- in screen.c: lines of text of a fixed width ---- */

extern char *screen_clip(const char *text, int width);
extern char *screen_padded(const char *text, int width);
extern char *screen_sparkline(const double *values, int n, int width);

#endif /* STRIPE_SYNC_DASHBOARD_INTERNAL_H */
