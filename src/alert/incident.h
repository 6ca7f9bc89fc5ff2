/*
 * incident.h
 *		What people do with an incident.
 */
#ifndef STRIPE_SYNC_INCIDENT_H
#define STRIPE_SYNC_INCIDENT_H

#include "base/base.h"

/* ---- incident_step.c ---- */

typedef enum StepResult
{
	STEP_DONE,
	STEP_DONE_BEFORE, /* acknowledged already: by and at say by whom */
	STEP_CLOSED,	  /* the incident is closed: by and at say by what */
	STEP_MISSING	  /* there is no such incident */
} StepResult;

typedef struct IncidentStep
{
	StepResult result;
	char *alert;
	char *by;
	TimestampTz at;
	TimestampTz until; /* of a snooze, like the next ones */
	char *replaced_by; /* whose snooze it replaces, or NULL */
	TimestampTz replaced_until;
} IncidentStep;

/*
 * Each locks the incident's row, then looks; writes a row of incident_step, and
 * has the incident's message updated.  "by" is "slack:U...".  They run in the
 * engine's scope, in the caller's transaction.
 */
extern IncidentStep incident_acknowledge(int64 id, const char *by,
										 int64 interaction);
extern IncidentStep incident_snooze(int64 id, TimestampTz until, const char *by,
									int64 interaction);
extern IncidentStep incident_resolve(int64 id, const char *by,
									 int64 interaction);

#endif /* STRIPE_SYNC_INCIDENT_H */
