/*
 * incident_step.c
 *		What people do with an incident: acknowledge, snooze, resolve.
 */
#include "postgres.h"

#include "alert/incident.h"


IncidentStep
incident_acknowledge(int64 id, const char *by, int64 interaction)
{
	return (IncidentStep){STEP_MISSING};
}

IncidentStep
incident_snooze(int64 id, TimestampTz until, const char *by, int64 interaction)
{
	return (IncidentStep){STEP_MISSING};
}

IncidentStep
incident_resolve(int64 id, const char *by, int64 interaction)
{
	return (IncidentStep){STEP_MISSING};
}
