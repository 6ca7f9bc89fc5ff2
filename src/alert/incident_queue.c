/*
 * incident_queue.c
 *		Queues the messages of incidents: mute and quiet hours.
 */
#include "postgres.h"

#include "outbox/outbox.h"
#include "alert/internal.h"

int64
incident_enqueue(NewMessage *message, const Incident *incident)
{
	return outbox_enqueue(message);
}
